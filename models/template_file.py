"""A marker template in a YAML file, as recipes and `export --markers` name it."""

from pathlib import Path

from models.markers import MARKER_STYLES, MarkerTemplate, checked


def read_markers(name: str) -> str | MarkerTemplate:
    """The name of a marker style as it is, or the template in the file of that name.

    Raises:
        ValueError: it is neither a style nor a file with a template; the message is one line.
    """
    if name in MARKER_STYLES:
        return name
    path = Path(name)
    if not path.is_file():
        styles = ", ".join(MARKER_STYLES)
        raise ValueError(f"{name!r} is neither a marker style nor a template file; the styles are {styles}")
    from models.yaml_text import read_yaml  # serving does not install PyYAML

    fields = read_yaml(path)
    if not isinstance(fields, dict):
        raise ValueError(f"{path}: a mapping with subject and object is required")
    try:
        template: MarkerTemplate = checked(fields)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return template
