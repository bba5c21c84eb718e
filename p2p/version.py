"""The version: what the package, the command line and the web client (vite.config.ts) all say."""

VERSION = "0.1.0"
