"""Where data and imports may come from: a list of places that the platform allows, matched part by part.

The URIs of a run are its author's, and the container that fetches them stands inside the platform's network and has
files of its own. So the platform names schemes, hosts, buckets and folders, and everything else is refused before
anything is asked. Parts are compared as wholes: neither `https://data.example.com.evil.com/` nor `s3://bucket/database`
is below `https://data.example.com` or `s3://bucket/data`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

DEFAULT_SOURCES: Final = "s3://,gs://,az://,https://,http://"
"""All that is reached over a network. A folder (`file:///data`) is allowed by name only."""
SCHEMES: Final = ("s3", "gs", "az", "https", "http", "file")
_WEB: Final = ("https", "http")
_SEPARATOR: Final = re.compile(r"[/\\]+")


@dataclass(frozen=True, slots=True)
class Place:
    """A scheme, and of it one authority (bucket or host with port; "" for all), and there the folders that lead to what
    is allowed (none for everything)."""

    scheme: str
    authority: str
    folders: tuple[str, ...]


def places(text: str) -> tuple[Place, ...]:
    """From comma-separated URIs such as `s3://,https://data.example.com,file:///data`. ValueError names a wrong one."""
    found = tuple(_place(entry.strip()) for entry in text.split(",") if entry.strip())
    if not found:
        raise ValueError("no source is allowed: name at least one, such as s3://")
    return found


def allows(among: Iterable[Place], uri: str) -> bool:
    """Whether the URI is at or below one of the places."""
    there = _split(uri)
    return any(_is_below(place, there) for place in among)


def _place(entry: str) -> Place:
    place = _split(entry)
    if place.scheme not in SCHEMES or "://" not in entry:
        raise ValueError(f"source {entry!r} is none: must begin with {', '.join(f'{s}://' for s in SCHEMES)}")
    if place.scheme == "file" and not entry.startswith("file:///"):
        raise ValueError(f"source {entry!r} names no folder: must be an absolute path, such as file:///data")
    if re.search(r"[?#@%*\\]", entry) or _has_dots(place):
        raise ValueError(f"source {entry!r} is no place: must be a scheme, a host or bucket, and folders alone")
    if place.folders and not place.authority and place.scheme != "file":
        raise ValueError(f"source {entry!r} has folders and no bucket or host: must be scheme://bucket/folder")
    return place


def _is_below(place: Place, there: Place) -> bool:
    if there.scheme != place.scheme or place.authority not in ("", there.authority):
        return False
    if place.scheme == "file" and there.authority:
        return False
    return not place.folders or (not _has_dots(there) and there.folders[: len(place.folders)] == place.folders)


def _split(uri: str) -> Place:
    """Of the web without query, and decoded: what a server makes of `%2e%2e%2f` counts."""
    scheme, _, rest = uri.partition("://")
    authority, _, path = rest.partition("/")
    if scheme in _WEB:
        authority, path = authority.lower(), unquote(re.split(r"[?#]", path)[0])
        folders = _SEPARATOR.split(path)
    else:
        folders = path.split("/")
    return Place(scheme, authority, tuple(f for f in folders if f))


def _has_dots(place: Place) -> bool:
    return any(f in (".", "..") for f in place.folders)
