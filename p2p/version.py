"""The version: what the package, the command line and the web client (vite.config.ts) all say."""

VERSION = "0.1.0"
SOFTWARE = f"handover/{VERSION}"  # how a peer names its program in the handshake and the receipt
