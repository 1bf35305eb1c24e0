/** User and password, where the server wants them. */

import { useState } from "react";

import { api } from "../api/client";

export function Login({ enter }: { enter: () => void }) {
  const [wrong, setWrong] = useState("");
  const [busy, setBusy] = useState(false);
  return (
    <main className="login">
      <form
        onSubmit={(event) => {
          event.preventDefault();
          setBusy(true);
          api
            .login(new FormData(event.currentTarget))
            .then(enter, (error: unknown) => setWrong(error instanceof Error ? error.message : String(error)))
            .finally(() => setBusy(false));
        }}
      >
        <h1>loraloom</h1>
        <label>
          User
          <input name="username" autoComplete="username" required autoFocus />
        </label>
        <label>
          Password
          <input name="password" type="password" autoComplete="current-password" required />
        </label>
        {wrong !== "" && <p className="wrong" role="alert">{wrong}</p>}
        <button className="primary" type="submit" disabled={busy}>Log in</button>
      </form>
    </main>
  );
}
