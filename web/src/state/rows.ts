/** A report's rows in the order that a reader asks for. */

import type { ModuleRow } from "../api/client";

export type Column = keyof ModuleRow;

export interface Order {
  readonly by: Column;
  readonly falling: boolean;
}

export const WORST: Order = { by: "written", falling: true };

/** Rows that are alike stay in the base's order. */
export function ordered(rows: readonly ModuleRow[], order: Order): readonly ModuleRow[] {
  const compared = (left: ModuleRow, right: ModuleRow): number => {
    const [one, other] = [left[order.by], right[order.by]];
    return typeof one === "number" && typeof other === "number" ? one - other : String(one).localeCompare(String(other), "en", { numeric: true });
  };
  return [...rows].sort((left, right) => (order.falling ? compared(right, left) : compared(left, right)));
}

/** What a click on a column's head gives: numbers begin with the largest, words with the first; a second click turns it around. */
export function clicked(order: Order, by: Column): Order {
  return order.by === by ? { by, falling: !order.falling } : { by, falling: by !== "module" && by !== "type" };
}
