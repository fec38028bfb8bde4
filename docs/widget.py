"""The page "Try it" in a notebook: the same scripts as an anywidget, or its picture and a link."""

from pathlib import Path

from IPython.display import Image, Markdown, display

from docs import citation, live_data

PICTURE = Path(__file__).with_name("try_it.png")
# What the page's scripts need of JupyterLab: a place, and the data, which come with the widget.
RENDER = """
export default {
  async render({ model, el }) {
    const root = document.createElement("div");
    el.append(root);
    await liveMount(root, { data: model.get("parts") });
  },
};
"""


def page():
    """The page, as a widget: it computes in the browser, and asks the kernel nothing.

    Raises: ModuleNotFoundError without anywidget; NotAvailable without the model that it shows.
    """
    try:
        import anywidget
        import traitlets
    except ModuleNotFoundError:
        said = "The page needs anywidget here: pip install anywidget, and reload the notebook."
        raise ModuleNotFoundError(said) from None

    class TryIt(anywidget.AnyWidget):
        _esm = script()
        _css = (live_data.SOURCES / "live.css").read_text(encoding="utf-8")
        parts = traitlets.Dict().tag(sync=True)  # as they open the widget: messages have a limit

    return TryIt(parts=live_data.parts())


def script() -> str:
    """The page's scripts as one module that renders a widget."""
    sources = [live_data.SOURCES / name for name in live_data.SCRIPTS]
    return "\n".join([*(source.read_text(encoding="utf-8") for source in sources), RENDER])


def picture() -> None:
    """Show what the page looks like, and where it is."""
    display(Image(PICTURE, width=720, alt="Two clouds of points and a slider that joins them"))
    display(Markdown(f"*Try it* {where()}."))


def where() -> str:
    """Where a reader finds the page: on the website, or on the one that she builds herself."""
    about = citation.read()
    if citation.repository(about) == citation.NOWHERE:
        return "is a page of the website that `./run_all.sh --site` builds"
    return f"is [a page of the website]({citation.website(about)}try.html)"
