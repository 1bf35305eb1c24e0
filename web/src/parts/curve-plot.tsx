/** How the error falls as the rank grows, with the place that was chosen. */

import { useRef } from "react";

import type { Curve, Point } from "../api/client";
import { percent } from "../state/amounts";
import { floor, line, linearAxis, logAxis } from "../state/scale";
import { useWidth } from "./width";

const HEIGHT = 260;
const LEFT = 52;
const RIGHT = 14;
const TOP = 14;
const BOTTOM = 34;
const ZERO = HEIGHT - BOTTOM; // where an error of 0 stands, which has no logarithm

interface Props {
  readonly curve: Curve;
  /** What the file will be; null where the curve does not tell. */
  readonly point: Point | null;
  /** The error that no module may exceed, where that is the goal. */
  readonly bound: number | null;
  /** A click chooses a rank; the form does the same for who has no mouse. */
  readonly choose: (rank: number) => void;
}

export function CurvePlot({ curve, point, bound, choose }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const width = useWidth(box);
  const most = curve.ranks.at(-1)?.most ?? 1;
  const low = floor([...curve.ranks.map(({ error }) => error), ...(bound ? [bound] : [])]);
  const x = linearAxis(1, Math.max(2, most), LEFT, width - RIGHT, Math.max(3, Math.floor(width / 90)));
  const y = logAxis(low, 1, ZERO - 22, TOP);
  const high = (error: number) => (error === 0 ? ZERO : y.at(error));
  const places = (of: (each: Point) => number) => curve.ranks.map((each) => [x.at(each.most), high(of(each))] as const);
  return (
    <div className="plot" ref={box}>
      {width > 0 && (
        <svg
          width={width}
          height={HEIGHT}
          role="img"
          aria-label={summary(curve)}
          onClick={(event) => {
            const place = event.clientX - event.currentTarget.getBoundingClientRect().left;
            choose(Math.round(1 + (Math.min(Math.max((place - LEFT) / (width - LEFT - RIGHT), 0), 1)) * (most - 1)));
          }}
        >
          {[...y.ticks, 0].map((tick) => (
            <g key={tick}>
              <path className="grid" d={`M${LEFT} ${high(tick)}H${width - RIGHT}`} />
              <text className="beside" x={LEFT - 8} y={high(tick)}>{percent(tick)}</text>
            </g>
          ))}
          {x.ticks.map((tick) => (
            <text key={tick} className="below" x={x.at(tick)} y={ZERO + 16}>{tick}</text>
          ))}
          <text className="below name" x={(LEFT + width - RIGHT) / 2} y={HEIGHT - 3}>rank of every module</text>
          {bound !== null && (
            <>
              {point !== null && <rect className="band" x={x.at(point.least)} width={Math.max(2, x.at(point.most) - x.at(point.least))} y={TOP} height={ZERO - TOP} />}
              <path className="bound" d={`M${LEFT} ${high(bound)}H${width - RIGHT}`} />
            </>
          )}
          <path className="worst" d={line(places((each) => each.worst))} />
          <path className="together" d={line(places((each) => each.error))} />
          {bound === null && point !== null && point.most > 0 && (
            <>
              <path className="chosen" d={`M${x.at(point.most)} ${TOP}V${ZERO}`} />
              <circle className="worst" cx={x.at(point.most)} cy={high(point.worst)} r={4} />
              <circle className="together" cx={x.at(point.most)} cy={high(point.error)} r={5} />
            </>
          )}
        </svg>
      )}
      <p className="legend quiet" aria-hidden="true">
        <span className="key together">all modules together</span>
        <span className="key worst">the worst module</span>
        {bound !== null && point !== null && <span className="key band">ranks of the modules</span>}
      </p>
    </div>
  );
}

function summary(curve: Curve): string {
  const some = curve.ranks.filter((_, index) => index % Math.max(1, Math.ceil(curve.ranks.length / 6)) === 0);
  return `Error of all modules together by rank: ${some.map((each) => `${percent(each.error)} at rank ${each.most}`).join(", ")}`;
}
