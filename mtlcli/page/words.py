"""What the page says: what it does in a lay person's words, what its network knows, how programs
ask it.
"""

from mtlcli.page.look import MOST_PIXELS, SHOWN
from mtlcli.page.uploads import FORGET, MOST_BYTES
from mtlcli.runs.checkpoint import Trained


def heading(trained: Trained) -> str:
    """What the page does, in a lay person's words, and what it takes."""
    asked = [task.question or task.title.lower() for task in trained.tasks.values()]
    questions = f"{', '.join(asked[:-1])} and {asked[-1]}" if len(asked) > 1 else asked[0]
    return (
        "# What does a computer see in this picture?\n"
        f"Drop a photo, use the webcam, or try one of these rooms. Of every point the network says "
        f"{questions}; point at a map to read it there.\n\n{knowledge(trained)}"
    )


def knowledge(trained: Trained) -> str:
    """What the network knows, and that it knows nothing else."""
    known = trained.scenes
    things = sum(len(trained.dataset.classes.get(task, ())) for task in trained.tasks)
    names = f", and names {things} kinds of things" if things else ""
    return (
        f"**What it knows:** it was trained on {trained.dataset.title}"
        f"{f' ({known})' if known else ''}{names}. It has seen nothing else: of other pictures it "
        "says something, too, but it means little."
    )


def footing(trained: Trained) -> str:
    """Which network this is, the limits, and how a program asks."""
    config = trained.config
    return (
        f"Network: {config.system} on {config.backbone}, {trained.title}. "
        f"{''.join(f'{note}. ' for note in trained.notes)}Pictures up to "
        f"{MOST_BYTES // 2**20} MB and {MOST_PIXELS // 10**6} million pixels; what is longer "
        f"than {SHOWN} pixels is made that small first. Nothing leaves the "
        f"computer that runs this page; files are deleted there after {FORGET // 60} minutes.\n\n"
        "From a program (`pip install gradio_client`):\n"
        "```python\n"
        "from gradio_client import Client, handle_file\n\n"
        'page = Client("http://127.0.0.1:7860")  # the address of this page\n'
        'page.predict(handle_file("photo.jpg"), api_name="/predict")  # path of a zip of all maps\n'
        'page.predict(api_name="/network")  # tasks, units and class names\n'
        "```"
    )
