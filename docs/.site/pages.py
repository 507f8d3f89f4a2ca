"""A hook of MkDocs: adds the files of the repository that pages link to, so that the site is whole without a network.

A linked page becomes a page of the site, any other linked file is copied, and a link to a folder becomes its name. The
table of operations in api.md is made from openapi.yaml.
"""

import pathlib
import posixpath
import re

import yaml
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
FOLDER = "repository"
# Not images: they are links of the same form, and treated alike.
LINK = re.compile(r"(\[(?:[^\[\]]|\[[^\]]*\])*\])\(([^)\s#:]+)(#[^)\s]*)?\)")
# The theme's search takes this from elsewhere when the site is read without a server.
SHIM, SHIM_HERE = "https://unpkg.com/iframe-worker/shim", "assets/javascripts/iframe-worker.js"
METHODS = ("get", "head", "post", "put", "delete")


def source(uri: str) -> pathlib.Path:
    """The file of a page of the site."""
    path = pathlib.PurePosixPath(uri)
    return ROOT / path.relative_to(FOLDER) if path.parts[0] == FOLDER else DOCS / path


def address(target: pathlib.Path) -> str:
    """The page or file of the site that shows a file of the repository."""
    if target.is_relative_to(DOCS):
        return target.relative_to(DOCS).as_posix()
    return f"{FOLDER}/{target.relative_to(ROOT).as_posix()}"


def outside_code(text: str, change) -> str:
    """Changes a page except for its blocks of code."""
    parts = re.split(r"(^ *```.*?^ *```[^\n]*$)", text, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if number % 2 else change(part) for number, part in enumerate(parts))


def linked(uri: str):
    """The files outside docs/ that a page links to."""
    found: list[pathlib.Path] = []
    here = source(uri)
    outside_code(here.read_text(), lambda part: found.extend(
        (here.parent / path).resolve() for _, path, _ in LINK.findall(part)) or part)
    return [path for path in found if path.is_file() and path.is_relative_to(ROOT) and not path.is_relative_to(DOCS)]


def on_files(files, config):
    files.append(File.generated(config, SHIM_HERE, abs_src_path=str(DOCS / ".site/iframe-worker.js")))
    todo = [file.src_uri for file in files if file.src_uri.endswith(".md")]
    todo += [f"{FOLDER}/{name}" for name in ("SECURITY.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/README.md")]
    while todo:
        uri = todo.pop()
        if uri.startswith(f"{FOLDER}/") and files.get_file_from_path(uri) is None:
            # What has no reader in a browser is shown as text.
            files.append(File.generated(config, uri, abs_src_path=str(source(uri))))
        elif uri.startswith(f"{FOLDER}/"):
            continue
        if uri.endswith(".md"):
            todo += [address(path) for path in linked(uri)]
    return files


def operations() -> str:
    """A section for each tag of openapi.yaml, with a table of its operations."""
    api = yaml.safe_load((DOCS / "openapi.yaml").read_text())
    lines = []
    for tag in api["tags"]:
        rows = [
            (method.upper(), path, entry[method]["summary"])
            for path, entry in api["paths"].items() for method in METHODS
            if method in entry and tag["name"] in entry[method]["tags"]
        ]
        if not rows:
            raise PluginError(f"openapi.yaml: the tag `{tag['name']}` has no operation")
        lines += [f"## {tag['name']}", "", tag["description"], "", "| operation | |", "|---|---|"]
        lines += [f"| `{method} {path}` | {summary} |" for method, path, summary in rows] + [""]
    return "\n".join(lines)


def on_page_markdown(markdown, page, config, files):
    uri = page.file.src_uri
    if uri == "api.md":
        markdown = markdown.replace("<!-- operations of openapi.yaml -->", operations())
    here = source(uri)

    def relative(found: re.Match) -> str:
        name, path, anchor = found.groups()
        target = (here.parent / path).resolve()
        if target.is_dir():
            readme = target / "README.md"
            if files.get_file_from_path(address(readme)) is None:
                return name[1:-1]
            target = readme
        return f"{name}({posixpath.relpath(address(target), posixpath.dirname(uri))}{anchor or ''})"

    return outside_code(markdown, lambda part: LINK.sub(relative, part))


def on_post_page(output, page, config):
    return output.replace(SHIM, posixpath.relpath(SHIM_HERE, posixpath.dirname(page.file.dest_uri)))


def on_post_template(output, template_name, config):
    return output.replace(SHIM, f"/{SHIM_HERE}")
