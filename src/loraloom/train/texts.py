"""Text files of captions in whatever encoding they were saved: UTF-8, Unicode with a byte order mark, else the one that the job says."""

import codecs
from collections.abc import Iterable
from pathlib import Path

from loraloom.errors import DatasetError

_MARKS = (  # UTF-32's begins with UTF-16's, so it stands before it
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NAMED = 20  # files, of any number
_GUESSED = 2**16  # bytes from which an encoding is guessed


def read_text(path: Path, encoding: str = "") -> str:
    """The file as text; `encoding` is for files that are neither UTF-8 nor begin with a byte order mark. Raises DatasetError."""
    content = _bytes(path)
    text = _decoded(content, encoding)
    if text is None:
        raise DatasetError(f"{path}: {_wrong(content, encoding)}; {_ADVICE}")
    return text


def require_texts(paths: Iterable[Path], encoding: str) -> None:
    """Raises one DatasetError that names every file that `read_text` would refuse, with the encoding that fits it."""
    bad = [(path, content) for path in paths if _decoded(content := _bytes(path), encoding) is None]
    if not bad:
        return
    named = "".join(f"\n  {path}: {_wrong(content, encoding)}" for path, content in bad[:_NAMED])
    more = f"\n  and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
    count = "1 caption file is" if len(bad) == 1 else f"{len(bad)} caption files are"
    raise DatasetError(f"{count} not UTF-8 text:{named}{more}\n{_ADVICE}")


_ADVICE = "save them as UTF-8, or say with --caption-encoding how files that are not UTF-8 are read"


def is_encoding(name: str) -> bool:
    """Whether Python reads text in an encoding of this name."""
    try:
        return bool(codecs.lookup(name)._is_text_encoding)
    except (LookupError, ValueError):
        return False


def _bytes(path: Path) -> bytes:
    try:
        if path.is_symlink() and not path.exists():
            raise DatasetError(f"{path}: is a link to {path.readlink()}, which does not exist; mend the link or take it out of the folder")
        if not path.is_file():
            raise DatasetError(f"{path}: is no file; take it out of the folder")
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}; check its permissions") from error


def _decoded(content: bytes, encoding: str) -> str | None:
    """None where the bytes are no text. A text has no NUL: where one is, UTF-16 was meant."""
    marked = next((name for mark, name in _MARKS if content.startswith(mark)), None)
    for name in (marked,) if marked else ("utf-8", encoding):
        try:
            if name and "\0" not in (text := content.decode(name)):
                return text
        except UnicodeError:
            continue
    return None


def _wrong(content: bytes, encoding: str) -> str:
    guess = _guessed(content)
    said = f"nor {encoding}" if encoding else ""
    return " ".join(filter(None, ("not UTF-8", said, f"text; it is probably {guess}" if guess else "text, nor any other that is known")))


def _guessed(content: bytes) -> str:
    """The likeliest encoding, or nothing. Texts of a few words in Western letters give a statistic too little, so these are tried first."""
    for name, odd in (("utf-16-le", content[1::2]), ("utf-16-be", content[0::2])):
        if odd.count(0) * 2 > len(odd) and _decoded(content, name) is not None:
            return name
    from charset_normalizer import from_bytes  # loads for longer than most commands run

    best = from_bytes(content[:_GUESSED]).best()
    name = best.encoding if best is not None and best.encoding in _OTHER_SCRIPTS else ""
    if name and _decoded(content, name) is not None:
        return name
    for name, fits in (("latin-1", not any(0x80 <= byte < 0xA0 for byte in content)), ("cp1252", True)):
        if fits and _decoded(content, name) is not None:
            return name
    return best.encoding if best is not None else ""


_OTHER_SCRIPTS = {  # that charset-normalizer tells from Western ones
    *("big5", "big5hkscs", "cp950", "gb2312", "gbk", "gb18030"),
    *("cp932", "shift_jis", "shift_jis_2004", "shift_jisx0213", "euc_jp", "euc_jis_2004", "euc_jisx0213", "iso2022_jp"),
    *("cp949", "euc_kr", "iso2022_kr", "johab"),
    *("cp1251", "koi8_r", "koi8_u", "iso8859_5", "mac_cyrillic", "cp1253", "iso8859_7"),
}
