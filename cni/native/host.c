/*
 * The CNI executable's process: QuickJS, the compiled modules of cni/, and the object `host` with the system calls that they need (cni/system-calls.ts).
 *
 * Nothing is decided here. Every call blocks until it is done; a call that fails returns its errno, negated. Rejected: the engine's own libc module, which
 * has no sockets and brings an event loop.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "quickjs.h"

/* What compile.c writes: each module before those that import it. */
struct module {
  const uint8_t *bytes;
  size_t length;
};
extern const struct module modules[];
extern const size_t module_count;

enum { CHUNK_BYTES = 64 * 1024 };

static JSValue result_of(JSContext *context, int64_t result) { return JS_NewInt64(context, result < 0 ? -(int64_t)errno : result); }

static JSValue failure(JSContext *context, int error) { return JS_NewInt64(context, -(int64_t)error); }

static int number(JSContext *context, JSValueConst value) {
  int32_t found = 0;
  JS_ToInt32(context, &found, value);
  return found;
}

/* A path, to be freed with JS_FreeCString; NULL: it has a zero byte, behind which the kernel would not look. */
static const char *path_of(JSContext *context, JSValueConst value) {
  size_t length = 0;
  const char *path = JS_ToCStringLen(context, &length, value);
  if (path == NULL || strlen(path) == length) return path;
  JS_FreeCString(context, path);
  return NULL;
}

/* readAll(fd, maxBytes): all of it to its end, as a string; EFBIG beyond the limit. */
static JSValue read_all(JSContext *context, JSValueConst self, int count, JSValueConst *arguments) {
  int fd = number(context, arguments[0]);
  size_t limit = (size_t)number(context, arguments[1]), capacity = CHUNK_BYTES, length = 0;
  char *bytes = malloc(capacity);
  int error = bytes == NULL ? ENOMEM : 0;
  while (error == 0) {
    if (length == capacity) {
      char *larger = realloc(bytes, capacity * 2);
      if (larger == NULL) {
        error = ENOMEM;
        break;
      }
      bytes = larger;
      capacity *= 2;
    }
    ssize_t got = read(fd, bytes + length, capacity - length);
    if (got == 0) break;
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) error = errno;
    else if ((length += (size_t)got) > limit) error = EFBIG;
  }
  JSValue text = error == 0 ? JS_NewStringLen(context, bytes, length) : failure(context, error);
  free(bytes);
  return text;
}

/* writeAll(fd, text): all of it. A socket's peer that is gone is an error (SIGPIPE is ignored). */
static JSValue write_all(JSContext *context, JSValueConst self, int count, JSValueConst *arguments) {
  int fd = number(context, arguments[0]), error = 0;
  size_t length = 0;
  const char *text = JS_ToCStringLen(context, &length, arguments[1]);
  if (text == NULL) return JS_EXCEPTION;
  for (size_t done = 0; done < length && error == 0;) {
    ssize_t wrote = write(fd, text + done, length - done);
    if (wrote >= 0) done += (size_t)wrote;
    else if (errno != EINTR) error = errno;
  }
  JS_FreeCString(context, text);
  return failure(context, error);
}

/* connectUnix(path, timeoutMs): a connected socket, on which every later call ends after the time (EAGAIN). */
static JSValue connect_unix(JSContext *context, JSValueConst self, int count, JSValueConst *arguments) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  int milliseconds = number(context, arguments[1]);
  struct timeval limit = {.tv_sec = milliseconds / 1000, .tv_usec = milliseconds % 1000 * 1000};
  const char *path = path_of(context, arguments[0]);
  if (path == NULL) return failure(context, EINVAL);
  size_t length = strlen(path);
  if (length < sizeof address.sun_path) memcpy(address.sun_path, path, length + 1);
  JS_FreeCString(context, path);
  if (length >= sizeof address.sun_path) return failure(context, ENAMETOOLONG);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), result = fd;
  if (fd >= 0) result = setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  if (result >= 0) result = setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  if (result >= 0) do result = connect(fd, (const struct sockaddr *)&address, sizeof address); while (result < 0 && errno == EINTR);
  if (result >= 0) return JS_NewInt64(context, fd);
  int error = errno;
  if (fd >= 0) close(fd);
  return failure(context, error);
}

static JSValue close_fd(JSContext *context, JSValueConst self, int count, JSValueConst *arguments) {
  return result_of(context, close(number(context, arguments[0])));
}

static JSValue sync_fd(JSContext *context, JSValueConst self, int count, JSValueConst *arguments) {
  return result_of(context, fsync(number(context, arguments[0])));
}

/* openFile(path, kind): "replace" and "append" make a file of mode 0600, "directory" is for syncFile. */
static JSValue open_file(JSContext *context, JSValueConst self, int count, JSValueConst *arguments) {
  const char *kind = JS_ToCString(context, arguments[1]);
  if (kind == NULL) return JS_EXCEPTION;
  int flags = strcmp(kind, "replace") == 0  ? O_WRONLY | O_CREAT | O_TRUNC
              : strcmp(kind, "append") == 0 ? O_WRONLY | O_CREAT | O_APPEND
                                            : O_RDONLY | O_DIRECTORY;
  JS_FreeCString(context, kind);
  const char *path = path_of(context, arguments[0]);
  if (path == NULL) return failure(context, EINVAL);
  JSValue result = result_of(context, open(path, flags | O_CLOEXEC, 0600));
  JS_FreeCString(context, path);
  return result;
}

static JSValue make_directory(JSContext *context, JSValueConst self, int count, JSValueConst *arguments) {
  const char *path = path_of(context, arguments[0]);
  if (path == NULL) return failure(context, EINVAL);
  JSValue result = result_of(context, mkdir(path, 0700));
  JS_FreeCString(context, path);
  return result;
}

static JSValue rename_file(JSContext *context, JSValueConst self, int count, JSValueConst *arguments) {
  const char *from = path_of(context, arguments[0]), *to = path_of(context, arguments[1]);
  JSValue result = from == NULL || to == NULL ? failure(context, EINVAL) : result_of(context, rename(from, to));
  if (from != NULL) JS_FreeCString(context, from);
  if (to != NULL) JS_FreeCString(context, to);
  return result;
}

static JSValue remove_file(JSContext *context, JSValueConst self, int count, JSValueConst *arguments) {
  const char *path = path_of(context, arguments[0]);
  if (path == NULL) return failure(context, EINVAL);
  JSValue result = result_of(context, unlink(path));
  JS_FreeCString(context, path);
  return result;
}

static JSValue variable(JSContext *context, JSValueConst self, int count, JSValueConst *arguments) {
  const char *name = JS_ToCString(context, arguments[0]);
  if (name == NULL) return JS_EXCEPTION;
  const char *value = getenv(name);
  JS_FreeCString(context, name);
  return value == NULL ? JS_UNDEFINED : JS_NewString(context, value);
}

static JSValue process_id(JSContext *context, JSValueConst self, int count, JSValueConst *arguments) { return JS_NewInt64(context, getpid()); }

static JSValue end_process(JSContext *context, JSValueConst self, int count, JSValueConst *arguments) { _exit(number(context, arguments[0])); }

static const JSCFunctionListEntry host_functions[] = {
    JS_CFUNC_DEF("readAll", 2, read_all),
    JS_CFUNC_DEF("writeAll", 2, write_all),
    JS_CFUNC_DEF("connectUnix", 2, connect_unix),
    JS_CFUNC_DEF("close", 1, close_fd),
    JS_CFUNC_DEF("sync", 1, sync_fd),
    JS_CFUNC_DEF("openFile", 2, open_file),
    JS_CFUNC_DEF("makeDirectory", 1, make_directory),
    JS_CFUNC_DEF("rename", 2, rename_file),
    JS_CFUNC_DEF("remove", 1, remove_file),
    JS_CFUNC_DEF("variable", 1, variable),
    JS_CFUNC_DEF("processId", 0, process_id),
    JS_CFUNC_DEF("exit", 1, end_process),
};

/* An error that no TypeScript caught: on stderr, as stdout has the result alone. */
static int fail(JSContext *context, JSValue error) {
  const char *text = JS_ToCString(context, error);
  JSValue stack = JS_IsError(error) ? JS_GetPropertyStr(context, error, "stack") : JS_UNDEFINED;
  const char *where = JS_IsString(stack) ? JS_ToCString(context, stack) : NULL;
  fprintf(stderr, "sedge-cni: %s\n%s", text == NULL ? "failed" : text, where == NULL ? "" : where);
  return 1;
}

int main(void) {
  signal(SIGPIPE, SIG_IGN);
  JSRuntime *runtime = JS_NewRuntime();
  JSContext *context = runtime == NULL ? NULL : JS_NewContext(runtime);
  if (context == NULL) return 1;
  JSValue global = JS_GetGlobalObject(context), host = JS_NewObject(context);
  JS_SetPropertyFunctionList(context, host, host_functions, sizeof host_functions / sizeof host_functions[0]);
  JS_SetPropertyStr(context, global, "host", host);
  JSValue program = JS_UNDEFINED;
  for (size_t i = 0; i < module_count; i++) {
    program = JS_ReadObject(context, modules[i].bytes, modules[i].length, JS_READ_OBJ_BYTECODE);
    if (JS_IsException(program)) return fail(context, JS_GetException(context));
  }
  if (JS_ResolveModule(context, program) < 0) return fail(context, JS_GetException(context));
  JSValue ended = JS_EvalFunction(context, program);
  if (JS_IsException(ended)) return fail(context, JS_GetException(context));
  JSContext *broken;
  for (int more = 1; more != 0;)
    if ((more = JS_ExecutePendingJob(runtime, &broken)) < 0) return fail(broken, JS_GetException(broken));
  /* main.ts ends the process: who comes here was left waiting for nothing, or failed. */
  if (JS_PromiseState(context, ended) == JS_PROMISE_REJECTED) return fail(context, JS_PromiseResult(context, ended));
  return fail(context, JS_NewString(context, "the program did not end the process"));
}
