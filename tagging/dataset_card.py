"""The README.md of a run, with the types of its tags for Hugging Face's ``datasets``.

``load_dataset`` takes the types of JSON lines from the first file, and fails where no line of that has a label or a name
and a line of another file has. So the types are in the head of README.md, in YAML
(https://huggingface.co/docs/datasets/repository_structure).
"""

from storage.runs import Run

# Of each field that `tagging.tags.documents` can write, in its order.
TYPES = {
    "id": "string",
    "corpus": "string",
    "partition": "int64",
    "row": "int64",
    "name": "string",
    "tag": "string",
    "votes": "int64",
    "trees": "int64",
    "confidence": "float64",
    "runner_up": "string",
    "runner_up_votes": "int64",
    "label": "string",
    "model": "string",
    "run": "string",
}
DESCRIPTOR = "  - name: descriptor\n    sequence: int64\n"


def dataset_card(run: Run) -> str:
    """Return the text. Fields that no line of the run has are null for a reader."""
    features = "".join(f"  - name: {name}\n    dtype: {kind}\n" for name, kind in TYPES.items())
    return (
        "---\n"
        "configs:\n- config_name: default\n  data_files: tags/*.jsonl\n"
        f"dataset_info:\n  features:\n{features}{DESCRIPTOR if run.descriptor else ''}"
        "---\n\n"
        f"# {run.name}\n\n"
        f"Tags that the model {run.model} gives the images of the corpus {run.corpus}, with a confidence of {run.min_confidence:g} or more. "
        "Written by TinyTags: `manifest.json` has the hashes of what went in, `tags/` one line an image, `statistics/` the counts of each partition.\n\n"
        "```python\nfrom datasets import load_dataset\n\n"
        f'tags = load_dataset("PATH/{run.name}")  # the path of this folder\n'
        "```\n"
    )
