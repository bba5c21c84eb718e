/** Trusted Types: a worker's script, from this server, is the only script that a string may become. */
export function allowOwnScripts(): void {
  const { location } = globalThis;
  (globalThis as any).trustedTypes?.createPolicy("default", {
    createScriptURL: (url: string) => {
      if (new URL(url, location.href).origin !== location.origin)
        throw new TypeError("another origin");
      return url;
    },
  });
}
