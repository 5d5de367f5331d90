"""The Gradio app: components, what happens on which event, and how it is served."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from mretrieve import InputError

from . import theme
from .actions import modes_of
from .api import add_api
from .cards import language_name
from .comparison import mode_name
from .handlers import Handlers, Values
from .library import Library
from .server import OwnHostOnly

TITLE = "mretrieve"
TAGLINE = "Find passages by meaning in any language"
HEADER = f'<header class="mr-top"><h1>{TITLE}</h1><p>{TAGLINE}</p></header>'
PLACEHOLDER = "Ask in any language"
ON_LOAD = "mretrieve.attach(element, trigger, server, watch); /* gives 'pick', 'similar' and 'back' */"
HITS = [5, 10, 20, 50]


def build(library: Library) -> gr.Blocks:
    """Put the page together.

    Args:
        library: the indexes to search; may be empty, which the page then says.
    """
    handlers = Handlers(library)
    sparse = handlers.sparse_indexes()
    page = gr.Blocks(title=TITLE, analytics_enabled=False)
    with page:
        add_api(library, sparse=bool(sparse))  # first, lest events take the names
        gr.HTML(HEADER)
        with gr.Tabs(elem_id="views"):
            with gr.Tab("Search", id="search"):
                query = _search_view(handlers)
            with gr.Tab("Compare", id="compare") as compare:
                _compare_view(handlers, compare, query)
            if sparse:
                with gr.Tab("Experts", id="experts") as experts:
                    _experts_view(handlers, experts, query, sparse)
            with gr.Tab("Index", id="facts") as facts:
                _facts_view(handlers, facts)
    return page


def _search_view(handlers: Handlers) -> gr.Textbox:
    library = handlers.library
    with gr.Column():
        query = _query_box("query", autofocus=True)
        index, mode, languages, top_k = controls = _controls(library)

    def explanation_of(hit: Values) -> str:  # Gradio marks these, which methods do not allow
        return handlers.explanation_of(hit)

    def sentences_of(asked: Values) -> dict[str, str]:
        return handlers.sentences_of(asked)

    results = gr.HTML(
        handlers.welcome(_first(library)),
        js_on_load=ON_LOAD,
        elem_id="results",
        server_functions=[explanation_of, sentences_of],
    )

    def pick(event: gr.EventData, *values: Any) -> tuple[str, str]:
        picked = str(event._data["query"])
        return picked, handlers.search(picked, *values)

    def like(event: gr.EventData, *values: Any) -> str:
        return handlers.similar(event._data, *values)

    def change_index(text: str, name: str, hits: int) -> tuple[Any, Any, str]:
        choices = _mode_choices(library, name)
        shown = handlers.search_again(text, name, choices["value"], [], hits)
        return gr.Radio(**choices), gr.Dropdown(**_language_choices(library, name)), shown

    _on(query.submit, handlers.search, [query, *controls], results)
    _on(results.pick, pick, controls, [query, results], panel="results")
    _on(results.similar, like, controls, results)
    _on(results.back, handlers.search_again, [query, *controls], results)
    for control in (mode, languages, top_k):
        _on(control.input, handlers.search_again, [query, *controls], results)
    _on(index.input, change_index, [query, index, top_k], [mode, languages, results], panel="results")
    return query


def _controls(library: Library) -> list[Any]:
    """Index, mode, languages and number of hits."""
    names, first = library.names, _first(library)
    with gr.Row(elem_id="controls"):
        return [
            gr.Dropdown(names, value=first or None, label="Index", visible=len(names) > 1, min_width=140),
            gr.Radio(**_mode_choices(library, first), label="Mode", elem_id="mode", min_width=220),
            gr.Dropdown(
                **_language_choices(library, first),
                label="Languages",
                multiselect=True,
                elem_id="languages",
                min_width=180,
            ),
            gr.Dropdown(HITS, value=10, label="Hits", elem_id="top-k", min_width=80),
        ]


def _first(library: Library) -> str:
    return next(iter(library.names), "")


def _compare_view(handlers: Handlers, tab: gr.Tab, asked: gr.Textbox) -> None:
    sides = handlers.sides()
    names = [name for name, _ in sides]
    by_name = dict(sides)
    query = _query_box("compare-query", button="Compare")
    with gr.Row(elem_id="sides"):
        left = gr.Dropdown(names, value=names[0] if names else None, label="Left", min_width=180)
        right = gr.Dropdown(names, value=_other_side(sides), label="Right", min_width=180)
    one_index = len(handlers.library.names) < 2
    hint = "To compare two models, open two indexes: mretrieve ui FIRST SECOND." if one_index else ""
    results = gr.HTML(f'<p class="hint">{hint}</p>', js_on_load=ON_LOAD, elem_id="comparison")

    def compare(text: str, one: str, two: str) -> str:
        return handlers.compare(text, by_name.get(one, ()), by_name.get(two, ()))

    def compare_again(text: str, one: str, two: str) -> str:
        return compare(text, one, two) if text.strip() else ""

    def take_over(text: str, before: str, shown: str, one: str, two: str) -> tuple[str, str]:
        """The question of the first tab, where none was asked here."""
        if before.strip() or not text.strip():
            return before, shown
        return text, compare(text, one, two)

    _on(query.submit, compare, [query, left, right], results)
    for side in (left, right):
        _on(side.input, compare_again, [query, left, right], results)
    _on(tab.select, take_over, [asked, query, results, left, right], [query, results], panel="comparison")


def _other_side(sides: Sequence[tuple[str, list[str]]]) -> str | None:
    """What the first side is compared with at the start: another index, or else another mode."""
    if not sides:
        return None
    first_index = sides[0][1][0]
    others = [name for name, (index, _) in sides if index != first_index]
    return next(iter([*others, *(name for name, _ in sides[1:]), sides[0][0]]))


def _experts_view(handlers: Handlers, tab: gr.Tab, asked: gr.Textbox, sparse: Sequence[str]) -> None:
    query = _query_box("experts-query", button="Show")
    index = gr.Dropdown(list(sparse), value=sparse[0], label="Index", visible=len(sparse) > 1)
    results = gr.HTML("", elem_id="routing")

    def take_over(text: str, before: str, shown: str, name: str) -> tuple[str, str]:
        if before.strip() or not text.strip():
            return before, shown
        return text, handlers.routing(text, name)

    _on(query.submit, handlers.routing, [query, index], results)
    _on(index.input, handlers.routing, [query, index], results)
    _on(tab.select, take_over, [asked, query, results, index], [query, results], panel="routing")


def _facts_view(handlers: Handlers, tab: gr.Tab) -> None:
    names, first = handlers.library.names, _first(handlers.library)
    index = gr.Dropdown(names, value=first or None, label="Index", visible=len(names) > 1)
    shown = gr.HTML(handlers.facts(first), elem_id="facts")
    _on(index.input, handlers.facts, [index], shown)
    tab.select(handlers.facts, [index], shown, queue=False, show_progress="hidden", api_visibility="private")


def _query_box(name: str, *, button: str = "Search", autofocus: bool = False) -> gr.Textbox:
    return gr.Textbox(
        label="Question",
        show_label=False,
        placeholder=PLACEHOLDER,
        submit_btn=button,
        autofocus=autofocus,
        max_lines=1,
        elem_id=name,
        elem_classes="query-box",
    )


def _on(event: Any, function: Any, inputs: Sequence[Any], outputs: Any, *, panel: str = "") -> None:
    """Join an event to a function; until it has answered, the panel of its result looks busy."""
    name = panel or outputs.elem_id
    event(fn=None, js=f"() => {{ mretrieve.busy('{name}'); }}", queue=False, api_visibility="private")
    done = event(function, inputs, outputs, queue=False, show_progress="hidden", api_visibility="private")
    for ended, what in ((done.success, "idle"), (done.failure, "failed")):
        ended(fn=None, js=f"() => {{ mretrieve.{what}('{name}'); }}", queue=False, api_visibility="private")


def _mode_choices(library: Library, index: str) -> dict[str, Any]:
    modes = modes_of(library[index]) if index else ["hybrid", "dense", "bm25"]
    return {"choices": [(mode_name(mode), mode) for mode in modes], "value": modes[0]}


def _language_choices(library: Library, index: str) -> dict[str, Any]:
    codes = library[index].index.manifest.languages if index else ()
    choices = sorted((language_name(code), code) for code in codes)
    return {"choices": choices, "value": []}


def launch(
    paths: Sequence[Path],
    *,
    host: str | None = None,
    port: int | None = None,
    device: str = "auto",
    dtype: str = "auto",
    in_browser: bool = False,
) -> tuple[gr.Blocks, str]:
    """Serve the page in threads of its own.

    Args:
        paths: folders of indexes.
        host: address to listen at; `$GRADIO_SERVER_NAME` or this machine only by default.
        port: `$GRADIO_SERVER_PORT` or the first free one from 7860 by default.
        device: `auto`, `cpu` or `cuda`.
        dtype: `auto`, `fp32`, `bf16` or `int8`.
        in_browser: whether to open the page in the browser of this machine.

    Returns:
        The app, and the address of the page.

    Raises:
        InputError: a folder holds no usable index, or the port is taken.
    """
    library = Library(paths, device=device, dtype=dtype)
    page = build(library)
    library.warm_up()
    try:
        _, url, _ = page.launch(
            server_name=host,
            server_port=port,
            inbrowser=in_browser,
            **_settings(),
        )
    except OSError as error:
        wanted = port or os.environ.get("GRADIO_SERVER_PORT", "7860 to 7959")
        raise InputError(f"Port {wanted} cannot be used ({error}): choose another with --port.") from error
    return page, url


def _settings() -> dict[str, Any]:
    """How Gradio serves the page: on its own, in its own looks, and recording nothing."""
    from starlette.middleware import Middleware

    return {
        "share": False,
        "quiet": True,
        "prevent_thread_lock": True,
        "ssr_mode": False,
        "pwa": False,
        "run_history": False,
        "enable_monitoring": False,
        "footer_links": [],
        "app_kwargs": {"middleware": [Middleware(OwnHostOnly)]},
        "theme": theme.theme(),
        "css": theme.style(),
        "head": theme.head(),
    }
