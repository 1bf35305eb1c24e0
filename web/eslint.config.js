import hooks from "eslint-plugin-react-hooks";
import tseslint from "typescript-eslint";

export default tseslint.config(
  { ignores: ["node_modules", "src/api/schema.d.ts"] },
  ...tseslint.configs.strict,
  hooks.configs.flat.recommended,
  {
    rules: {
      "max-lines": ["error", 300],
      "no-restricted-properties": ["error", { property: "dangerouslySetInnerHTML", message: "what comes from files is text" }],
    },
  },
);
