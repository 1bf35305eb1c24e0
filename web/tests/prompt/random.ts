/** Random prompts, right and wrong ones, for the laws of the prompt model. */

import fc from "fast-check";

const name = fc.constantFrom("ink", "styles/neon", '"odd: name"', "hf:owner/repo", "0badcafe", "", "été", "🐙");
const value = fc.oneof(
  fc.double({ min: -3, max: 3, noNaN: true }).map((number) => number.toFixed(2)),
  fc.constantFrom("0~1", "0.2@1,0.9@6", "", "much", " 1 ", ".5", "2e-1"),
);
const key = fc.constantFrom("te", "te1", "unet", "dit", "in", "mid", "out", "lbw", "dyn", "unett", " te ");
const item = fc.oneof(value, fc.tuple(key, value).map((pair) => pair.join("=")));

export const tag = fc
  .tuple(fc.constantFrom("lora", "LoRA", "lyco"), name, fc.array(item, { maxLength: 4 }))
  .map(([word, called, items]) => `<${[word, called, ...items].join(":")}>`);

const text = fc.oneof(fc.constantFrom(", ", " ", "\n", "<", ">", "<lora:", '"', "(word:1.2)"), fc.string({ unit: "grapheme", maxLength: 12 }));

export const prompt = fc.array(fc.oneof(tag, text), { maxLength: 10 }).map((parts) => parts.join(""));
