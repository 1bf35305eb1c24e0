/** The modules of a report as a table; a click on a head orders by it. */

import { useState } from "react";

import type { ModuleRow } from "../api/client";
import { percent } from "../state/amounts";
import { clicked, ordered, WORST, type Column } from "../state/rows";
import { ModuleName } from "./module-name";

const SHOWN = 12;
const COLUMNS: readonly (readonly [Column, string])[] = [
  ["module", "module"],
  ["type", "type"],
  ["rank", "rank"],
  ["ranks", "of the mix"],
  ["error", "as combined"],
  ["written", "as written"],
  ["output", "of outputs"],
];

export function ModuleTable({ rows }: { rows: readonly ModuleRow[] }) {
  const [order, setOrder] = useState(WORST);
  const [all, setAll] = useState(false);
  const shown = ordered(rows, order).slice(0, all ? rows.length : SHOWN);
  return (
    <>
      <div className="scrolled" role="region" aria-label="Modules" tabIndex={0}>
        <table>
          <thead>
            <tr>
              {COLUMNS.map(([column, label]) => (
                <th key={column} scope="col" aria-sort={order.by !== column ? "none" : order.falling ? "descending" : "ascending"}>
                  <button type="button" onClick={() => setOrder(clicked(order, column))}>{label}</button>
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {shown.map((row) => (
              <tr key={row.module}>
                <td><ModuleName name={row.module} /></td>
                <td>{row.type}</td>
                <td>{row.rank || "–"}</td>
                <td>{row.ranks || "–"}</td>
                <td>{percent(row.error)}</td>
                <td>{percent(row.written)}</td>
                <td>{percent(row.output)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {rows.length > SHOWN && (
        <button type="button" onClick={() => setAll(!all)}>{all ? `Only the first ${SHOWN}` : `All ${rows.length} modules`}</button>
      )}
    </>
  );
}
