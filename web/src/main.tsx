/** Where the page begins. */

import { StrictMode } from "react";
import { createRoot } from "react-dom/client";

import { App } from "./app";
import "./style/theme.css";
import "./style/base.css";
import "./style/layout.css";
import "./style/compose.css";
import "./style/stage.css";
import "./style/networks.css";
import "./style/settings.css";
import "./style/models.css";

const root = document.getElementById("root");
if (root !== null) {
  createRoot(root).render(
    <StrictMode>
      <App />
    </StrictMode>,
  );
}
