"""The page itself, in gradio."""

from collections.abc import Callable, Mapping
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from mtlcli.errors import InputError
from mtlcli.page.look import MOST_BYTES, MOST_PIXELS, look
from mtlcli.runs.checkpoint import Trained

Pair = tuple[np.ndarray, np.ndarray]
Seen = tuple[np.ndarray, Mapping[str, np.ndarray]]
FORGET = 600  # seconds after which uploads are deleted, and how often that is looked at
WAITING = 16  # visitors in the queue; the network serves one at a time
FONTS = ("system-ui", "sans-serif")
FIXED_FONTS = ("ui-monospace", "monospace")
HERE = files("mtlcli.page")


def build_page(trained: Trained) -> gr.Blocks:
    """Upload or webcam, a slider between picture and one map, and all maps below."""
    titles = [task.title for task in trained.tasks.values()]

    def show(upload: str | None, title: str) -> tuple[Any, ...]:
        if upload is None:
            return None, None, ""
        try:
            seen = look(trained, Path(upload))
        except InputError as error:
            gr.Warning(str(error), title="Not shown")
            return None, None, f'<p role="alert">{escape(str(error))}</p>'
        return (seen.image, seen.drawn), pair((seen.image, seen.drawn), title), seen.html

    with gr.Blocks(
        title="mtl", analytics_enabled=False, delete_cache=(FORGET, FORGET), fill_width=True
    ) as page:
        gr.Markdown(heading(trained))
        kept = gr.State()
        with gr.Row():
            upload = gr.Image(
                label="Picture",
                type="filepath",
                image_mode=None,
                sources=["upload", "webcam", "clipboard"],
                height=420,
            )
            upload.preprocess = unopened(upload.preprocess)
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


def unopened(preprocess: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Hands on the path of an uploaded file: this page opens it itself and tells what is wrong."""

    def as_path(payload: Any) -> Any:
        return getattr(payload, "path", None) or preprocess(payload)

    return as_path


def pair(kept: Seen | None, title: str) -> Pair | None:
    """The two sides of the slider."""
    return None if kept is None else (kept[0], kept[1][title])


def heading(trained: Trained) -> str:
    """Which network this is, and what the page takes."""
    config = trained.config
    return (
        f"### {config.system}, {config.backbone}, trained on {trained.dataset.title}\n"
        f"Drop a picture (up to {MOST_BYTES // 2**20} MB and {MOST_PIXELS // 10**6} million "
        "pixels) or use the webcam; point at a map to read its values. Nothing leaves the "
        "computer that runs this page."
    )


def launch(page: gr.Blocks, host: str, port: int) -> str:
    """Serve the page in a thread of its own; returns its address.

    Raises:
        OSError: the port or the address cannot be had.
    """
    _, address, _ = page.launch(
        server_name=host,
        server_port=port,
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
    return address
