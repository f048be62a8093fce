/** Drawing with SVG text, for the pictures of the benchmarks. A chart library would be the largest dependency. */

export interface Bar {
  readonly color: string;
  readonly value: number;
}

export interface Panel {
  readonly title: string;
  readonly groups: readonly { readonly name: string; readonly bars: readonly Bar[] }[];
}

/** Points are in the order of x. */
export interface Line {
  readonly name: string;
  readonly color: string;
  readonly points: readonly { readonly x: number; readonly y: number }[];
}

export const WIDTH = 900;
export const LEFT = 130;
const BAR_WIDTH = 600;
const BAR_HEIGHT = 15;
const GROUP_GAP = 12;
const LINE_HEIGHT = 240;

/** A whole picture of this height. */
export function page(parts: readonly string[], height: number): string {
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif">\n<rect width="100%" height="100%" fill="white"/>\n${parts.join("\n")}\n</svg>\n`;
}

/** One scale a panel; the longest bar is as wide as the panel. */
export function drawPanel({ title, groups }: Panel, top: number): { readonly svg: string; readonly end: number } {
  const largest = Math.max(1e-9, ...groups.flatMap(({ bars }) => bars.map(({ value }) => value)));
  const parts = [text({ x: 20, y: top, size: 14, weight: "bold", value: title })];
  let y = top + 14;
  for (const { name, bars } of groups) {
    parts.push(text({ x: LEFT - 8, y: y + (bars.length * BAR_HEIGHT) / 2 + 4, size: 12, anchor: "end", value: name }));
    for (const { color, value } of bars) {
      const width = Math.max(1, (value / largest) * BAR_WIDTH);
      parts.push(
        rect({ x: LEFT, y, width, height: BAR_HEIGHT - 2, color }),
        text({ x: LEFT + width + 6, y: y + BAR_HEIGHT - 4, size: 11, value: value < 10 ? value.toFixed(2) : value.toFixed(1) }),
      );
      y += BAR_HEIGHT;
    }
    y += GROUP_GAP;
  }
  return { svg: parts.join("\n"), end: y };
}

/** All lines on one pair of scales that begin at zero. */
export function drawLines(
  options: { readonly title: string; readonly xUnit: string; readonly lines: readonly Line[] },
  top: number,
): { readonly svg: string; readonly end: number } {
  const { title, xUnit, lines } = options;
  const all = lines.flatMap(({ points }) => points);
  const largestX = Math.max(1e-9, ...all.map(({ x }) => x));
  const largestY = Math.max(1e-9, ...all.map(({ y }) => y));
  const bottom = top + 24 + LINE_HEIGHT;
  const place = ({ x, y }: { readonly x: number; readonly y: number }): string =>
    `${(LEFT + (x / largestX) * BAR_WIDTH).toFixed(1)},${(bottom - (y / largestY) * LINE_HEIGHT).toFixed(1)}`;
  const parts = [
    text({ x: 20, y: top, size: 14, weight: "bold", value: title }),
    `<path d="M${LEFT},${top + 24} V${bottom} H${LEFT + BAR_WIDTH}" fill="none" stroke="#888"/>`,
    text({ x: LEFT - 8, y: top + 30, size: 11, anchor: "end", value: largestY.toFixed(0) }),
    text({ x: LEFT - 8, y: bottom, size: 11, anchor: "end", value: "0" }),
    text({ x: LEFT + BAR_WIDTH, y: bottom + 14, size: 11, anchor: "end", value: `${largestX.toFixed(1)} ${xUnit}` }),
  ];
  for (const [i, { name, color, points }] of lines.entries()) {
    parts.push(
      `<polyline points="${points.map(place).join(" ")}" fill="none" stroke="${color}" stroke-width="1.5"/>`,
      rect({ x: LEFT + BAR_WIDTH + 12, y: top + 24 + i * 18, width: 12, height: 12, color }),
      text({ x: LEFT + BAR_WIDTH + 29, y: top + 34 + i * 18, size: 11, value: name }),
    );
  }
  return { svg: parts.join("\n"), end: bottom + 20 };
}

export function rect({
  x,
  y,
  width,
  height,
  color,
}: {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
  readonly color: string;
}): string {
  return `<rect x="${x}" y="${y}" width="${width.toFixed(1)}" height="${height}" fill="${color}"/>`;
}

export function text(options: {
  readonly x: number;
  readonly y: number;
  readonly size: number;
  readonly value: string;
  readonly weight?: string;
  readonly color?: string;
  readonly anchor?: string;
}): string {
  const { x, y, size, value, weight = "normal", color = "#222", anchor = "start" } = options;
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" font-size="${size}" font-weight="${weight}" fill="${color}" text-anchor="${anchor}">${value.replaceAll("&", "&amp;").replaceAll("<", "&lt;")}</text>`;
}
