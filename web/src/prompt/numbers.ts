/** Numbers and schedules as a tag writes them. */

const NUMBER = /^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?$/;
const LARGEST = 1e6;

/** The number that a value is, or null: a schedule, a name, or a mistake. */
export function plainNumber(text: string): number | null {
  const value = NUMBER.test(text) ? Number(text) : Number.NaN;
  return Math.abs(value) <= LARGEST ? value : null;
}

/** A number as a slider writes it: at most three decimals, no zeros at the end. */
export function written(value: number): string {
  const rounded = Math.round(value * 1000) / 1000;
  return String(Object.is(rounded, -0) ? 0 : rounded);
}

/** True for values that change while the picture is drawn: `0~1`, `0.2@1,0.9@6`. */
export function isSchedule(text: string): boolean {
  return /[@~]/.test(text);
}

/** A corner of a schedule's curve: where in the run (0 to 1), how strong. */
export interface Corner {
  readonly at: number;
  readonly value: number;
}

/** The curve of a schedule over a run of `steps`, as corners from 0 to 1; null where the text is no schedule. */
export function curve(text: string, steps: number): Corner[] | null {
  const marks = [...text.matchAll(/[,~]/g)].map((match) => match[0]);
  const points = text.split(/[,~]/).map((part) => part.split("@").map((half) => half.trim()));
  const values = points.map(([value]) => plainNumber(value ?? ""));
  if (values.some((value) => value === null)) return null;
  const known = values as number[];
  if (points.every((point) => point.length === 1)) {
    const [first, last] = known;
    if (known.length !== 2 || marks[0] !== "~" || first === undefined || last === undefined) return null;
    return [{ at: 0, value: first }, { at: 1, value: last }];
  }
  const places = positions(points.map((point) => (point.length === 2 ? (point[1] ?? "") : "")), steps);
  if (places === null) return null;
  const corners: Corner[] = [{ at: 0, value: known[0] ?? 0 }];
  known.forEach((value, index) => {
    const at = places[index] ?? 0;
    if (index > 0 && marks[index - 1] === ",") corners.push({ at, value: known[index - 1] ?? 0 });
    corners.push({ at, value });
  });
  corners.push({ at: 1, value: known[known.length - 1] ?? 0 });
  return corners.filter((corner) => corner.at <= 1);
}

/** Positions as parts of the run. Steps count from 1; a bare set with a number above 1, or a single 1, is of steps. */
function positions(texts: readonly string[], steps: number): number[] | null {
  const read = texts.map((text) => /^([0-9]*\.?[0-9]+)([s%]?)$/.exec(text));
  if (read.some((match) => match === null)) return null;
  const found = read.map((match) => ({ value: Number(match?.[1]), unit: match?.[2] ?? "" }));
  const bare = found.map(({ value, unit }) => (unit === "%" ? value / 100 : value));
  const ofSteps = found.some(({ unit }) => unit === "s") || Math.max(...bare) > 1 || (bare.length === 1 && bare[0] === 1);
  return found.map(({ value, unit }, index) =>
    unit === "%" || !ofSteps ? (bare[index] ?? 0) : Math.max(0, value - 1) / Math.max(1, steps - 1),
  );
}
