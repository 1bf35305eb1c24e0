/** A prompt that is written: a text field, and behind it the same text with its tags and its mistake marked. */

import { useEffect, useId, useRef } from "react";

import type { Mistake } from "../api/client";
import { placeOf } from "../prompt/places";
import { tokenize, type Span } from "../prompt/tokens";

interface Props {
  readonly label: string;
  readonly value: string;
  readonly placeholder: string;
  readonly mistake: Mistake | null;
  readonly small?: boolean;
  /** Whether a mistake takes the focus; not while somebody writes. */
  readonly seek?: boolean;
  readonly onChange: (value: string) => void;
  readonly onDraw: () => void;
}

export function Editor({ label, value, placeholder, mistake, small = false, seek = true, onChange, onDraw }: Props) {
  const id = useId();
  const field = useRef<HTMLTextAreaElement>(null);
  const wrong = mistake?.column == null ? null : placeOf(value, mistake.column, mistake.length);
  const start = wrong?.start;
  const stop = wrong?.stop;
  useEffect(() => {
    if (!seek || start === undefined || stop === undefined) return;
    field.current?.focus();
    field.current?.setSelectionRange(start, stop);
  }, [seek, start, stop]);
  return (
    <div className={small ? "editor small" : "editor"}>
      <label htmlFor={id}>{label}</label>
      <div className="paper">
        <div className="behind" aria-hidden="true">
          <Marked text={value} wrong={wrong} />
          {"\u200b"}
        </div>
        <textarea
          id={id}
          ref={field}
          value={value}
          placeholder={placeholder}
          spellCheck={false}
          autoCapitalize="off"
          rows={small ? 1 : 4}
          aria-invalid={mistake !== null}
          aria-describedby={mistake === null ? undefined : `${id}-wrong`}
          onChange={(event) => onChange(event.target.value)}
          onKeyDown={(event) => {
            if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
              event.preventDefault();
              onDraw();
            }
          }}
        />
      </div>
      {mistake !== null && <p className="wrong" id={`${id}-wrong`} role="alert">{mistake.message}</p>}
    </div>
  );
}

/** The text in pieces: tags in the colours of their rows, the mistake underlined. */
function Marked({ text, wrong }: { text: string; wrong: Span | null }) {
  let thread = -1;
  return tokenize(text).map((segment) => {
    const tag = segment.kind === "tag" && segment.name !== "";
    if (segment.kind === "tag") thread += 1;
    const colour = tag ? `tag thread-${thread % 6}` : undefined;
    const pieces = cut(segment.source, segment.start, wrong);
    return (
      <span key={segment.start} className={colour}>
        {pieces.map(([piece, isWrong], index) => (isWrong ? <em key={index}>{piece}</em> : piece))}
      </span>
    );
  });
}

function cut(source: string, start: number, wrong: Span | null): [string, boolean][] {
  if (wrong === null) return [[source, false]];
  const from = Math.min(Math.max(wrong.start - start, 0), source.length);
  const to = Math.min(Math.max(wrong.stop - start, 0), source.length);
  return [
    [source.slice(0, from), false],
    [source.slice(from, to), to > from],
    [source.slice(to), false],
  ];
}
