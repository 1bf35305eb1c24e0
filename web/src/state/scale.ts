/** Axes of plots: where a value stands, and which values are written beside the axis. */

export interface Axis {
  /** The place of a value in pixels; values beyond the ends stand at the ends. */
  at(value: number): number;
  readonly ticks: readonly number[];
}

/** Powers of ten, from `low` at `start` to `high` at `stop`. What is 0 stands at the lower end. */
export function logAxis(low: number, high: number, start: number, stop: number): Axis {
  const span = Math.log10(high / low) || 1;
  const ticks: number[] = [];
  for (let power = Math.ceil(Math.log10(low) - 1e-9); power <= Math.floor(Math.log10(high) + 1e-9); power += 1) ticks.push(10 ** power);
  return {
    at: (value) => start + (Math.log10(Math.min(Math.max(value, low), high) / low) / span) * (stop - start),
    ticks,
  };
}

/** From `low` at `start` to `high` at `stop`, with at most `count` round numbers. */
export function linearAxis(low: number, high: number, start: number, stop: number, count: number): Axis {
  const span = high - low || 1;
  const step = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000].find((each) => span / each <= count) ?? span;
  const ticks: number[] = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high; tick += step) ticks.push(tick);
  return { at: (value) => start + ((Math.min(Math.max(value, low), high) - low) / span) * (stop - start), ticks };
}

/** A line through places, as the `d` of a path. */
export function line(places: readonly (readonly [number, number])[]): string {
  return places.map(([x, y], index) => `${index === 0 ? "M" : "L"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
}

/** The lower end of an axis of errors: a power of ten below the smallest that counts, between 10⁻⁸ and 10⁻². */
export function floor(errors: readonly number[]): number {
  const smallest = Math.min(0.01, ...errors.filter((error) => error > 0));
  return 10 ** Math.max(-8, Math.floor(Math.log10(smallest)));
}
