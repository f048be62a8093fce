/** The page docs/performance.md: between a line `<!-- figures: NAME -->` and the next `<!-- end -->` stands what the kept results say, and nothing else. Pure. */
import { block } from "./blocks.ts";
import type { Lines } from "./lines.ts";
import { needsBlock } from "./needs.ts";

const MARKED = /<!-- figures: (?<name>[a-z0-9-]+) -->\n[\s\S]*?<!-- end -->/g;
/** Which results the arithmetic is made of. */
const NEEDS = /^needs-(?<source>.+)$/;

/** The page with its figures as they are now. */
export function rendered(page: string, lines: Lines): string {
  return page.replaceAll(MARKED, (_all, name: string) => {
    const source = NEEDS.exec(name)?.groups?.["source"];
    const text = source === undefined ? block(name, lines(name)) : needsBlock(source, lines(source));
    return `<!-- figures: ${name} -->\n\n${text}\n\n<!-- end -->`;
  });
}
