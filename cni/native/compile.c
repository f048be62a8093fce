/*
 * compile MODULE: the bytecode of an ES module and of all that it imports, as C for host.c, on stdout. Runs at build time, in the folder that module names
 * are relative to.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "quickjs.h"

static int module_count;
static size_t lengths[256];

static char *read_file(const char *path, size_t *length) {
  FILE *file = fopen(path, "rb");
  if (file == NULL || fseek(file, 0, SEEK_END) != 0) return NULL;
  *length = (size_t)ftell(file);
  rewind(file);
  /* The engine wants a zero behind the text. */
  char *text = calloc(*length + 1, 1);
  if (text == NULL || fread(text, 1, *length, file) != *length) return NULL;
  fclose(file);
  return text;
}

static void print_module(JSContext *context, JSValueConst module) {
  size_t length = 0;
  uint8_t *bytes = JS_WriteObject(context, &length, module, JS_WRITE_OBJ_BYTECODE | JS_WRITE_OBJ_STRIP_SOURCE);
  if (bytes == NULL || module_count == sizeof lengths / sizeof lengths[0]) exit(1);
  printf("static const uint8_t module_%d[] = {", module_count);
  for (size_t i = 0; i < length; i++) printf("%d,", bytes[i]);
  printf("};\n");
  lengths[module_count++] = length;
  js_free(context, bytes);
}

/* Compiles one; the engine asks `load` for what it imports meanwhile, so those are printed before it. */
static JSValue compile(JSContext *context, const char *name) {
  size_t length = 0;
  char *text = read_file(name, &length);
  if (text == NULL) return JS_ThrowReferenceError(context, "%s cannot be read", name);
  JSValue module = JS_Eval(context, text, length, name, JS_EVAL_TYPE_MODULE | JS_EVAL_FLAG_COMPILE_ONLY);
  free(text);
  if (!JS_IsException(module)) print_module(context, module);
  return module;
}

static JSModuleDef *load(JSContext *context, const char *name, void *opaque) {
  JSValue module = compile(context, name);
  if (JS_IsException(module)) return NULL;
  JSModuleDef *found = JS_VALUE_GET_PTR(module);
  JS_FreeValue(context, module);
  return found;
}

int main(int count, char **arguments) {
  JSRuntime *runtime = JS_NewRuntime();
  JSContext *context = runtime == NULL ? NULL : JS_NewContext(runtime);
  if (context == NULL || count != 2) return 2;
  JS_SetModuleLoaderFunc(runtime, NULL, load, NULL);
  printf("#include <stddef.h>\n#include <stdint.h>\n");
  if (JS_IsException(compile(context, arguments[1]))) {
    const char *text = JS_ToCString(context, JS_GetException(context));
    fprintf(stderr, "%s: %s\n", arguments[1], text == NULL ? "failed" : text);
    return 1;
  }
  printf("struct module { const uint8_t *bytes; size_t length; };\nconst struct module modules[] = {");
  for (int i = 0; i < module_count; i++) printf("{module_%d, %zu},", i, lengths[i]);
  printf("};\nconst size_t module_count = %d;\n", module_count);
  return fflush(stdout) == 0 ? 0 : 1;
}
