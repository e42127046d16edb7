"""The page itself, in gradio."""

import os
from collections.abc import Callable, Mapping
from html import escape
from importlib.resources import files
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import gradio as gr
import numpy as np
from starlette.middleware import Middleware

from mtlcli.data.stored import decode
from mtlcli.errors import InputError
from mtlcli.page.downloads import ZIP, save
from mtlcli.page.guard import Guard
from mtlcli.page.hosts import Hosts
from mtlcli.page.look import look, see, titles_of
from mtlcli.page.samples import ROOMS, THUMBNAIL, draw_room, png
from mtlcli.page.tiles import data_url
from mtlcli.page.uploads import FORGET, MOST_BYTES, Uploads
from mtlcli.page.words import footing, heading
from mtlcli.runs.checkpoint import Trained

Pair = tuple[np.ndarray, np.ndarray]
Seen = tuple[bytes, Mapping[str, bytes]]  # the picture and its maps by title, as PNG
KEEP = 3600  # seconds for which a visitor can turn to another map
SESSIONS = 64  # visitors who are remembered, some megabytes each
WAITING = 16  # visitors in the queue; the network serves one at a time
NETWORK = "network"  # what asks it waits in one queue
FONTS = ("system-ui", "sans-serif")
FIXED_FONTS = ("ui-monospace", "monospace")
HERE = files("mtlcli.page")
SCRIPTS = ("hover.js", "points.js")


def build_page(trained: Trained, uploads: Uploads) -> gr.Blocks:
    """Rooms to try, upload or webcam, a slider between picture and one map, and all maps below; and
    the functions that programs call. Their order is that of `mtlcli.page.guard`.
    """
    titles = titles_of(trained)

    def show(upload: str | None, title: str) -> tuple[Any, ...]:
        if upload is None:
            return None, None, ""
        try:
            seen = look(trained, uploads.own(upload), uploads)
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
        with gr.Row(elem_id="rooms"):
            buttons = [
                gr.Button(name, elem_id=f"room{i}", elem_classes="mtl-try", min_width=88, scale=0)
                for i, name in enumerate(ROOMS)
            ]
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
        tiles = gr.HTML(js_on_load="".join(map(read, SCRIPTS)), elem_id="tiles")
        gr.Markdown(footing(trained))
        upload.change(
            show,
            [upload, choice],
            [kept, slider, tiles],
            api_visibility="private",
            concurrency_id=NETWORK,
        )
        choice.change(
            pair, [kept, choice], slider, api_visibility="private", show_progress="hidden"
        )
        gr.api(predict_files(trained, uploads), api_name="predict", concurrency_id=NETWORK)
        gr.api(describe(trained), api_name="network")
        for button, name in zip(buttons, ROOMS):
            button.click(
                bring(name, uploads.folder),
                None,
                upload,
                api_visibility="private",
                concurrency_id="renderer",
            )
    return page.queue(max_size=WAITING, default_concurrency_limit=1)


def predict_files(trained: Trained, uploads: Uploads) -> Callable[..., dict[str, Any]]:
    """What programs call with a picture."""

    def predict(picture: dict) -> dict:  # type: ignore[type-arg]
        """All maps of a picture in one zip: the files of `mtl visualize --separate`."""
        try:
            seen = see(trained, uploads.own(picture["path"]))
        except InputError as error:
            raise gr.Error(str(error), print_exception=False) from error
        saved = save(seen, uploads)
        if saved is None:
            raise gr.Error("There is no room: come back in some minutes.", print_exception=False)
        return {"path": str(saved.everything), "url": saved.address(saved.everything),
                "orig_name": ZIP, "meta": {"_type": "gradio.FileData"}}  # fmt: skip

    return predict


def describe(trained: Trained) -> Callable[[], dict[str, Any]]:
    """What programs ask about the network."""

    def network() -> dict:  # type: ignore[type-arg]
        """Which network answers, what it predicts, and the names of its classes."""
        return {
            "system": trained.config.system,
            "backbone": trained.config.backbone,
            "trained_on": trained.dataset.title,
            "tasks": {name: task.holds for name, task in trained.tasks.items()},
            "classes": {n: list(trained.dataset.classes.get(n, ())) for n in trained.tasks},
            "notes": list(trained.notes),
        }

    return network


def bring(name: str, folder: Path) -> Callable[[], str]:
    """Makes one of `ROOMS` as if it had been uploaded."""

    def draw() -> str:
        with NamedTemporaryFile(dir=folder, suffix=".png", delete=False) as file:
            file.write(png(draw_room(name)))
        return file.name

    return draw


def read(name: str) -> str:
    """A file of the page's own."""
    return (HERE / name).read_text()


def style() -> str:
    """The page's style, with the pictures on its buttons."""
    rules = [read("hover.css")]
    for i, name in enumerate(ROOMS):
        picture = data_url(draw_room(name, THUMBNAIL), "PNG")
        rules.append(f'#room{i} {{ background-image: url("{picture}"); }}')
    return "\n".join(rules)


def leave_unopened(preprocess: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Hands on the path of an uploaded file: this page opens it itself and tells what is wrong."""

    def as_path(payload: Any) -> Any:
        return getattr(payload, "path", None) or preprocess(payload)

    return as_path


def pair(kept: Seen | None, title: str) -> Pair | None:
    """The two sides of the slider."""
    return None if kept is None else (decode(kept[0]), decode(kept[1][title]))


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
        rooms=len(ROOMS),
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
        css=style(),
    )
    return page, address
