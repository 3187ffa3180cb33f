"""The web process: one address on this machine, one supervised worker, nothing left behind."""

from __future__ import annotations

import contextlib
import socket
import threading
import webbrowser
from collections.abc import Callable

import fastapi
import gradio as gr
import uvicorn

from inpo_studio.settings import Settings
from inpo_studio.studio import Studio, open_studio
from inpo_studio.studio.label.choices import check_annotator
from inpo_studio.studio.label.starters import add_starters
from inpo_studio.supervisor import Supervisor
from inpo_studio.ui.app import CSS, HEAD, build_page, theme
from inpo_studio.ui.blind.route import add_blind_pictures
from inpo_studio.ui.doors import Doors
from inpo_studio.ui.exports import add_exports
from inpo_studio.ui.gradio_routes import OpenRoutes, page_files
from inpo_studio.ui.headers import SafeHeaders
from inpo_studio.ui.pictures import add_pictures


def serve(settings: Settings, listener: socket.socket, announce: Callable[[str], None]) -> None:
    """Serve on a bound socket until interrupted; `announce` gets the URL once it answers."""
    studio = open_studio(settings)
    try:
        add_starters(studio)
        with contextlib.ExitStack() as held:
            if settings.worker:
                supervisor = held.enter_context(Supervisor(settings))
                studio.on_renewed.append(supervisor.renew)
            run(studio, listener, announce)
    finally:
        studio.close()


def build_server_app(studio: Studio) -> fastapi.FastAPI:
    """Return the web application: the doors, then Gradio with everything outward switched off.

    Raises StudioError for a name that cannot be an annotator's.
    """
    settings = studio.settings
    user = check_annotator(settings.annotator)
    app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    add_pictures(app, studio)
    add_blind_pictures(app)
    add_exports(app, studio)
    mounted = gr.mount_gradio_app(
        app,
        build_page(studio),
        path="/",
        server_name=settings.host,
        server_port=settings.port,
        allowed_paths=[],
        blocked_paths=[str(settings.workspace)],
        enable_monitoring=False,
        footer_links=[],
        max_file_size="1mb",  # no page uploads: text files are read by the browser
        run_history=False,
        show_error=False,
        ssr_mode=False,
        theme=theme(),
        css=CSS,
        head=HEAD,
    )
    _gradio_of(mounted).add_middleware(OpenRoutes)
    mounted.add_middleware(Doors, user=user)
    mounted.add_middleware(SafeHeaders)
    return mounted


def _gradio_of(mounted: fastapi.FastAPI) -> fastapi.FastAPI:
    (found,) = (
        app
        for route in mounted.routes
        if isinstance(app := getattr(route, "app", None), fastapi.FastAPI)
    )
    return found


class _Server(uvicorn.Server):
    """Tells when it answers."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()


def run(studio: Studio, listener: socket.socket, announce: Callable[[str], None]) -> None:
    """Serve an open studio's pages until interrupted, without a worker."""
    settings = studio.settings
    port = listener.getsockname()[1]
    name = f"[{settings.host.strip('[]')}]" if ":" in settings.host else settings.host
    url = f"http://{name}:{port}/"

    def ready() -> None:
        announce(url)
        if settings.open_browser:
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()

    with page_files():
        config = uvicorn.Config(
            build_server_app(studio),
            log_level="warning",
            timeout_graceful_shutdown=3,
            proxy_headers=False,
            server_header=False,
        )
        _Server(config, ready).run(sockets=[listener])
