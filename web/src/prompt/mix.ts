/** The tags of a prompt as a mix, and one tag in the place of a mix. */

import { addTag, removeTag } from "./edits";
import { isSchedule } from "./numbers";
import { tags } from "./tokens";

/** The tags alone, as the prompt writes them. */
export function mixOf(prompt: string): string {
  return tags(prompt)
    .map((tag) => tag.source)
    .join("");
}

/** Whether a strength of the mix changes while a picture is drawn. */
export function changes(mix: string): boolean {
  return tags(mix).some((tag) => tag.items.some((item) => isSchedule(item.text)));
}

/** The prompt with one tag instead of the tags of `mix`, where the first of them stands; at its end if it has none of
 * them. `name` as a tag spells it. */
export function instead(prompt: string, mix: string, name: string): string {
  const wanted = tags(mix).map((tag) => tag.source);
  const found: number[] = [];
  tags(prompt).forEach((tag, index) => {
    const place = wanted.indexOf(tag.source);
    if (place < 0) return;
    wanted.splice(place, 1);
    found.push(index);
  });
  const [first, ...others] = found;
  if (first === undefined) return addTag(prompt, name, "1");
  const without = others.reduceRight((text, index) => removeTag(text, index), prompt);
  const tag = tags(without)[first];
  if (tag === undefined) return addTag(without, name, "1");
  return `${without.slice(0, tag.start)}<lora:${name}:1>${without.slice(tag.stop)}`;
}

const LONGEST = 60;

/** A name for the file of a mix, made of its networks' names. */
export function suggestedName(mix: string): string {
  const names = tags(mix).map((tag) => (tag.name.split("/").pop() ?? "").replace(/[\\:*?"<>|]/g, ""));
  const joined = [...new Set(names)].filter((name) => name !== "").join("-").slice(0, LONGEST);
  return joined.replace(/^[.\s]+|[.\s]+$/g, "") || "mix";
}
