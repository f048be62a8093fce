/**
 * Kubernetes objects from files, directories and stdin, each with the place where it was read.
 *
 * Reads what kubectl reads: YAML 1.1 (`yes` and `on` are true, `017` is 15) of several documents with merge keys, JSON, and lists of objects. Every problem is collected, so that one run names all.
 */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { parseAllDocuments, type Tags } from "yaml";

/** One object and where it stands, for messages: "policies.yaml, document 2". */
export interface SourcedObject {
  readonly source: string;
  readonly object: unknown;
}

export interface SourcedProblem {
  readonly source: string;
  readonly message: string;
}

export interface ReadResult {
  readonly objects: readonly SourcedObject[];
  readonly problems: readonly SourcedProblem[];
}

const SUFFIXES = [".yaml", ".yml", ".json"];

/** Objects of each path in turn: a file, a directory (its .yaml, .yml and .json files in order of name, not below), or "-" for stdin. */
export function readManifests(paths: readonly string[]): ReadResult {
  const problems: SourcedProblem[] = [];
  const objects = paths.flatMap(filesOf).flatMap((file) => {
    const read = "text" in file ? parseManifests(file.text, file.path) : { objects: [], problems: [file.problem] };
    problems.push(...read.problems);
    return read.objects;
  });
  return { objects, problems };
}

/** Objects of one text. */
export function parseManifests(text: string, source: string): ReadResult {
  const documents = parseDocuments(text, source);
  const objects = documents.values.filter(({ object }) => object !== null && object !== undefined).flatMap(expandLists);
  return { objects, problems: documents.problems };
}

/** Values of a text that is JSON or YAML, one per document. */
export function parseDocuments(text: string, source: string): { readonly values: readonly SourcedObject[]; readonly problems: readonly SourcedProblem[] } {
  if (/^\s*[[{]/.test(text)) {
    try {
      return { values: [{ source, object: JSON.parse(text) as unknown }], problems: [] };
    } catch {
      // YAML too may begin with a bracket; when it is neither, the YAML parser's message has the line.
    }
  }
  const parsed = parseAllDocuments(text, { version: "1.1", customTags: withoutTimes, merge: true, prettyErrors: true });
  const documents = Array.isArray(parsed) ? parsed : [];
  const values: SourcedObject[] = [];
  const problems: SourcedProblem[] = [];
  for (const [i, document] of documents.entries()) {
    const where = documents.length > 1 ? `${source}, document ${i + 1}` : source;
    problems.push(...document.errors.map((error) => ({ source: where, message: error.message.replaceAll(/\s*\n\s*/g, " ").trim() })));
    if (document.errors.length > 0) continue;
    try {
      values.push({ source: where, object: document.toJS() as unknown });
    } catch (error) {
      problems.push({ source: where, message: error instanceof Error ? error.message : String(error) });
    }
  }
  return { values, problems };
}

/** YAML 1.1 without what kubectl's parser leaves out of it: `10:30` and `2026-01-31` stay text. */
function withoutTimes(tags: Tags): Tags {
  return tags.filter((tag) => typeof tag === "string" || (tag.format !== "TIME" && tag.tag !== "tag:yaml.org,2002:timestamp"));
}

/** `kind: List`, `kind: PodList`, and a plain array, as their items. Items of a typed list may leave out their own kind. */
function expandLists({ source, object }: SourcedObject): SourcedObject[] {
  if (Array.isArray(object)) return object.flatMap((item: unknown, i) => expandLists({ source: `${source}, [${i}]`, object: item }));
  if (!isList(object)) return [{ source, object }];
  const kind = object.kind.slice(0, -"List".length);
  return object.items.flatMap((item: unknown, i) => {
    const isBare = kind !== "" && typeof item === "object" && item !== null && !("kind" in item);
    return expandLists({ source: `${source}, items[${i}]`, object: isBare ? { apiVersion: object.apiVersion, kind, ...item } : item });
  });
}

function isList(object: unknown): object is { readonly apiVersion: unknown; readonly kind: string; readonly items: readonly unknown[] } {
  if (typeof object !== "object" || object === null || !("kind" in object) || !("items" in object)) return false;
  return typeof object.kind === "string" && object.kind.endsWith("List") && Array.isArray(object.items);
}

type FileText = { readonly path: string; readonly text: string } | { readonly problem: SourcedProblem };

function filesOf(path: string): FileText[] {
  try {
    if (path === "-") return [{ path: "stdin", text: readFileSync(0, "utf8") }];
    if (!statSync(path).isDirectory()) return [{ path, text: readFileSync(path, "utf8") }];
    const names = readdirSync(path).filter((name) => SUFFIXES.some((suffix) => name.endsWith(suffix)));
    if (names.length === 0) return [{ problem: { source: path, message: `no ${SUFFIXES.join(", ")} files in this directory` } }];
    return names.sort().flatMap((name) => filesOf(join(path, name)));
  } catch (error) {
    return [{ problem: { source: path, message: `cannot be read: ${error instanceof Error ? error.message : String(error)}` } }];
  }
}
