"""An HTTP server of this process, at a free port, that says nothing of itself."""

from __future__ import annotations

import http.server
import threading
from typing import Self


class LocalServer(http.server.ThreadingHTTPServer):
    """Serves while the `with` block runs. Subclasses give the handler."""

    def handle_error(self, *args: object) -> None:
        """Quiet."""

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *args: object) -> None:
        self.shutdown()
        self.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"
