/** Errors and sizes as people read them. */

const SUPERSCRIPT = "⁰¹²³⁴⁵⁶⁷⁸⁹";

/** A relative error: `39 %`, `0.42 %`, `5.2·10⁻⁸`. */
export function percent(error: number): string {
  if (error === 0) return "0";
  if (error >= 0.0001) return `${Number((error * 100).toPrecision(2))} %`;
  const [digits, power] = error.toExponential(1).split("e-");
  return `${digits}·10⁻${[...(power ?? "")].map((digit) => SUPERSCRIPT[Number(digit)]).join("")}`;
}

/** `830 kB`, `2.7 MB`, as files are counted. */
export function size(bytes: number): string {
  const units = ["bytes", "kB", "MB", "GB"];
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 ? value : Number(value.toPrecision(value >= 100 ? 3 : 2))} ${units[unit]}`;
}
