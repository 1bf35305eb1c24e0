/** A module's long name, which may go on in the next line behind a dot or a dash. */

export function ModuleName({ name }: { name: string }) {
  return name.split(/(?<=[._])/).map((part, index) => (
    <span key={index}>
      {part}
      <wbr />
    </span>
  ));
}
