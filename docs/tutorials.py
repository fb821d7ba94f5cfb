"""Tutorials: the executed notebooks as pages, `python docs/tutorials.py`."""

from pathlib import Path

from nbconvert import MarkdownExporter
from nbconvert.writers import FilesWriter

HERE = Path(__file__).parent


def main() -> None:
    """Write `docs/tutorials/NAME.md`, and its pictures beside it, for each notebook."""
    folder = HERE / "tutorials"
    folder.mkdir(exist_ok=True)
    exporter, writer = MarkdownExporter(), FilesWriter(build_directory=str(folder))
    for notebook in sorted((HERE.parent / "notebooks").glob("*.ipynb")):
        resources = {"unique_key": notebook.stem, "output_files_dir": f"{notebook.stem}_files"}
        text, resources = exporter.from_filename(str(notebook), resources)
        writer.write(text, resources, notebook_name=notebook.stem)


if __name__ == "__main__":
    main()
