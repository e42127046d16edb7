"""The page itself, in gradio."""

import os
from collections.abc import Callable, Mapping
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import gradio as gr
import numpy as np
from starlette.middleware import Middleware

from mtlcli.data.stored import decode
from mtlcli.errors import InputError
from mtlcli.page.guard import Guard
from mtlcli.page.hosts import Hosts
from mtlcli.page.look import MOST_BYTES, MOST_PIXELS, look
from mtlcli.page.uploads import FORGET, Uploads
from mtlcli.runs.checkpoint import Trained

Pair = tuple[np.ndarray, np.ndarray]
Seen = tuple[bytes, Mapping[str, bytes]]  # the picture and its maps by title, as PNG
KEEP = 3600  # seconds for which a visitor can turn to another map
SESSIONS = 64  # visitors who are remembered, some megabytes each
WAITING = 16  # visitors in the queue; the network serves one at a time
FONTS = ("system-ui", "sans-serif")
FIXED_FONTS = ("ui-monospace", "monospace")
HERE = files("mtlcli.page")


def build_page(trained: Trained, uploads: Uploads) -> gr.Blocks:
    """Upload or webcam, a slider between picture and one map, and all maps below."""
    titles = titles_of(trained)

    def show(upload: str | None, title: str) -> tuple[Any, ...]:
        if upload is None:
            return None, None, ""
        try:
            seen = look(trained, uploads.own(upload))
        except InputError as error:
            gr.Warning(str(error), title="Not shown")
            return None, None, f'<p role="alert">{escape(str(error))}</p>'
        kept = png(seen.image), {name: png(drawn) for name, drawn in seen.drawn.items()}
        return kept, pair(kept, title), seen.html

    with gr.Blocks(
        title="mtl", analytics_enabled=False, delete_cache=(FORGET, FORGET), fill_width=True
    ) as page:
        gr.Markdown(heading(trained))
        kept = gr.State(time_to_live=KEEP)
        with gr.Row():
            upload = gr.Image(
                label="Picture",
                type="filepath",
                image_mode=None,
                sources=["upload", "webcam", "clipboard"],
                height=420,
            )
            upload.preprocess = leave_unopened(upload.preprocess)  # type: ignore[method-assign,assignment]
            with gr.Column():
                slider = gr.ImageSlider(
                    label="Picture | prediction", interactive=False, max_height=420, format="png"
                )
                choice = gr.Radio(titles, value=titles[0], label="Prediction", container=False)
        tiles = gr.HTML(js_on_load=(HERE / "hover.js").read_text(), elem_id="tiles")
        upload.change(show, [upload, choice], [kept, slider, tiles], api_visibility="private")
        choice.change(
            pair, [kept, choice], slider, api_visibility="private", show_progress="hidden"
        )
    return page.queue(max_size=WAITING, default_concurrency_limit=1)


def titles_of(trained: Trained) -> list[str]:
    """Of the maps that can be chosen."""
    return [task.title for task in trained.tasks.values()]


def leave_unopened(preprocess: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Hands on the path of an uploaded file: this page opens it itself and tells what is wrong."""

    def as_path(payload: Any) -> Any:
        return getattr(payload, "path", None) or preprocess(payload)

    return as_path


def pair(kept: Seen | None, title: str) -> Pair | None:
    """The two sides of the slider."""
    return None if kept is None else (decode(kept[0]), decode(kept[1][title]))


def png(picture: np.ndarray) -> bytes:
    """RGB (H, W, 3) uint8 as PNG, quickly."""
    fast = [cv2.IMWRITE_PNG_COMPRESSION, 1]
    return cv2.imencode(".png", picture[..., ::-1], fast)[1].tobytes()


def heading(trained: Trained) -> str:
    """Which network this is, and what the page takes."""
    config = trained.config
    return (
        f"### {config.system}, {config.backbone}, trained on {trained.dataset.title}\n"
        f"Drop a picture (up to {MOST_BYTES // 2**20} MB and {MOST_PIXELS // 10**6} million "
        "pixels) or use the webcam; point at a map to read its values. Nothing leaves the "
        "computer that runs this page."
    )


def launch(trained: Trained, host: str, port: int, folder: Path) -> tuple[gr.Blocks, str]:
    """Serve the page of a network in a thread of its own; returns it, and its address.

    Args:
        trained: the network.
        host, port: to listen at.
        folder: an empty one, for what visitors bring and what is made of it.

    Raises:
        OSError: the port or the address cannot be had.
    """
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    uploads = Uploads(folder)
    page = build_page(trained, uploads)
    sessions = page._queue.pending_messages_per_session
    sessions.max_size = SESSIONS
    guard = Middleware(
        Guard,
        hosts=Hosts(host, port),
        uploads=uploads,
        titles=titles_of(trained),
        sessions=sessions,
    )
    _, address, _ = page.launch(
        server_name=f"[{host}]" if ":" in host else host,
        server_port=port,
        app_kwargs={"middleware": [guard]},
        state_session_capacity=SESSIONS,
        max_file_size=MOST_BYTES,
        share=False,
        inbrowser=False,
        quiet=True,
        prevent_thread_lock=True,
        footer_links=[],
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        theme=gr.themes.Default(font=FONTS, font_mono=FIXED_FONTS),
        css=(HERE / "hover.css").read_text(),
    )
    return page, address
