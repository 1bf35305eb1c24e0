/** Error and rank of every module, in the order of the base. */

import { useRef } from "react";

import type { ModuleRow } from "../api/client";
import { percent } from "../state/amounts";
import { floor, linearAxis, logAxis } from "../state/scale";
import { useWidth } from "./width";

const LEFT = 52;
const RIGHT = 14;
const ERRORS = 130; // pixels of the upper part
const RANKS = 66; // of the lower
const GAP = 18;
const HEIGHT = ERRORS + GAP + RANKS + 6;

export function ModulePlot({ rows }: { rows: readonly ModuleRow[] }) {
  const box = useRef<HTMLDivElement>(null);
  const width = useWidth(box);
  const components = [...new Set(rows.map(componentOf))];
  const most = Math.max(1, ...rows.map(({ rank }) => rank));
  const shown = rows.flatMap(({ written, output }) => [written, output]);
  const highest = Math.max(...shown);
  const low = floor(shown);
  const x = linearAxis(0, Math.max(1, rows.length - 1), LEFT + 4, width - RIGHT, 1);
  const errors = logAxis(low, highest > 0.1 ? 1 : Math.max(low * 100, 10 ** Math.ceil(Math.log10(Math.max(highest, low)))), ERRORS, 8);
  const room = (width - LEFT - RIGHT) / rows.length;
  const bar = room < 4 ? room : room * 0.8;
  const ranks = linearAxis(0, most, ERRORS + GAP + RANKS, ERRORS + GAP, 3);
  return (
    <div className="plot" ref={box}>
      {width > 0 && (
        <svg width={width} height={HEIGHT} role="img" aria-label={`Error and rank of ${rows.length} modules; the table below has their numbers`}>
          {every(errors.ticks).map((tick) => (
            <g key={tick}>
              <path className="grid" d={`M${LEFT} ${errors.at(tick)}H${width - RIGHT}`} />
              <text className="beside" x={LEFT - 8} y={errors.at(tick)}>{percent(tick)}</text>
            </g>
          ))}
          {ranks.ticks.map((tick) => (
            <g key={tick}>
              <path className="grid" d={`M${LEFT} ${ranks.at(tick)}H${width - RIGHT}`} />
              <text className="beside" x={LEFT - 8} y={ranks.at(tick)}>{tick}</text>
            </g>
          ))}
          {components.map((component, number) => (
            <g key={component} className={`thread-${number % 6}`}>
              <path className="tails" d={each(rows, component, (row, index) => `M${x.at(index).toFixed(1)} ${errors.at(row.written).toFixed(1)}V${errors.at(row.output).toFixed(1)}`)} />
              <path className="dots" d={each(rows, component, (row, index) => `M${x.at(index).toFixed(1)} ${errors.at(row.written).toFixed(1)}h0`)} />
              <path className="bars" strokeWidth={bar} d={each(rows, component, (row, index) => `M${x.at(index).toFixed(1)} ${ranks.at(0)}V${ranks.at(row.rank).toFixed(1)}`)} />
            </g>
          ))}
        </svg>
      )}
      <p className="legend quiet" aria-hidden="true">
        <span>Modules from first to last: above their errors as written, with a line to that of outputs, below their ranks</span>
        {components.map((component, number) => <span key={component} className={`key dots thread-${number % 6}`}>{component}</span>)}
      </p>
    </div>
  );
}

function componentOf(row: ModuleRow): string {
  return row.module.split(".")[0] ?? "";
}

function each(rows: readonly ModuleRow[], component: string, draw: (row: ModuleRow, index: number) => string): string {
  return rows.map((row, index) => (componentOf(row) === component ? draw(row, index) : "")).join("");
}

/** At most five of them. */
function every(ticks: readonly number[]): readonly number[] {
  const step = Math.ceil(ticks.length / 5);
  return ticks.filter((_, index) => (ticks.length - 1 - index) % step === 0);
}
