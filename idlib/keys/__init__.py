"""Files of private keys, certificates and requests: read with limits, written atomically, keys kept when replaced."""

from idlib.keys.creation import encode_private_key, generate_private_key
from idlib.keys.faults import refusal_to_overwrite
from idlib.keys.locking import locked
from idlib.keys.paths import (
    MAX_PREVIOUS_KEYS,
    certificate_path,
    epoch_progress_path,
    key_path,
    next_certificate_path,
    next_key_path,
    previous_key_paths,
    request_path,
    rotation_path,
)
from idlib.keys.reading import (
    MAX_FILE_BYTES,
    how_to_get_a_key,
    how_to_get_the_next_key,
    no_certificate,
    parse_certificate,
    parse_private_key,
    read_certificate,
    read_file,
    read_private_key,
)
from idlib.keys.replacement import replace_key, require_no_rotation
from idlib.keys.writing import is_open_to_others, make_directory, remove, replace, replace_all, write_new

__all__ = [
    "MAX_FILE_BYTES",
    "MAX_PREVIOUS_KEYS",
    "certificate_path",
    "encode_private_key",
    "epoch_progress_path",
    "generate_private_key",
    "how_to_get_a_key",
    "how_to_get_the_next_key",
    "is_open_to_others",
    "key_path",
    "locked",
    "make_directory",
    "next_certificate_path",
    "next_key_path",
    "no_certificate",
    "parse_certificate",
    "parse_private_key",
    "previous_key_paths",
    "read_certificate",
    "read_file",
    "read_private_key",
    "refusal_to_overwrite",
    "remove",
    "replace",
    "replace_all",
    "replace_key",
    "request_path",
    "require_no_rotation",
    "rotation_path",
    "write_new",
]
