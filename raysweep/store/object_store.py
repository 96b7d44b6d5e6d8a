"""An object store: its address, the credentials for it, and what to do when it refuses."""

import configparser
import os
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from obstore.store import ObjectStore, S3Store, from_url
from pyarrow import fs

from raysweep.errors import InputError

_SCHEMES = ("s3", "gs", "abfs", "abfss")
_SETTINGS = ("region", "scheme", "endpoint_override")
# Tries of a request, with growing pauses between them: about half a minute of an outage is bridged,
# a longer one is an error. The first look at a place gives up sooner.
PATIENT, QUICK = 7, 2
PATIENT_S, QUICK_S = 60, 3
_PAUSE_S = 0.5  # before the second try; each pause is twice the last one
_CONNECT_S = 3
_REQUEST_S = 300
_NO_ANSWER = "nothing answers; look at AWS_ENDPOINT_URL, AWS_REGION and the network"
_DAMAGED = "the log is damaged; move it away: what has come in the last seconds is trained again"
# What people do about what an object store says; the first that fits.
_CURES = {
    "InvalidAccessKeyId": "the key in AWS_ACCESS_KEY_ID is not known there",
    "SignatureDoesNotMatch": "AWS_SECRET_ACCESS_KEY does not fit AWS_ACCESS_KEY_ID",
    "NoSuchBucket": "there is no such bucket; make it first",
    "403 Forbidden": "access is denied; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give "
    "this machine a role that may list, read and write there",
    "169.254.169.254": "no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give "
    "this machine a role",
    "metadata.google": "no credentials; set GOOGLE_APPLICATION_CREDENTIALS",
    "NETWORK_CONNECTION": _NO_ANSWER,
    "not a database": _DAMAGED,
    "malformed": _DAMAGED,
    "error sending request": _NO_ANSWER,
}


def check_uri(uri: str) -> None:
    """Raises: InputError for a URI that can't be a folder, or that holds a secret."""
    parts = urlsplit(uri)
    user, _, _ = parts.netloc.rpartition("@")
    if ":" in user or (user and parts.scheme == "s3") or "@" in parts.query:
        # Said without the URI: this message goes into logs too.
        raise InputError(
            f"a {parts.scheme}:// address holds a user or a password, which would be written into "
            "the log: leave them out, and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead"
        )
    settings = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    unknown = [name for name in settings if name not in _SETTINGS]
    place = f"{parts.scheme}://{parts.netloc}{parts.path}"
    if unknown or parts.fragment:
        wrong = ", ".join(map(repr, unknown)) or "'#'"
        raise InputError(f"{place}: after '?' may stand {', '.join(_SETTINGS)}; not {wrong}")
    if parts.scheme not in _SCHEMES:
        raise InputError(
            f"{place}: {parts.scheme!r} is no known kind of place; a folder's path is, and "
            f"{', '.join(f'{scheme}://' for scheme in _SCHEMES)}"
        )
    if not parts.netloc:
        raise InputError(f"{place}: it names no bucket; {parts.scheme}://BUCKET/PREFIX does")
    if ".." in parts.path.split("/"):
        raise InputError(f"{place}: '..' means nothing in an object store")


def connected(uri: str, tries: int) -> ObjectStore:
    """The object store of a URI; paths in it are relative to the URI's."""
    parts = urlsplit(uri)
    settings, here = dict(parse_qsl(parts.query)), os.environ
    config: dict[str, Any] = {}
    endpoint = settings.get("endpoint_override", "")
    if parts.scheme == "s3":
        endpoint = endpoint or here.get("AWS_ENDPOINT_URL_S3") or here.get("AWS_ENDPOINT_URL", "")
        region = settings.get("region") or here.get("AWS_REGION") or here.get("AWS_DEFAULT_REGION")
        # Another maker's S3 has no regions; in AWS, the bucket's is looked up.
        region = region or ("us-east-1" if endpoint else fs.resolve_s3_region(parts.netloc))
        config = {"region": region, "disable_bulk_delete": "true", **_keys_at_home()}
    scheme, sign, host = endpoint.rpartition("://")
    scheme = settings.get("scheme") or (scheme if sign else "https")
    if endpoint:
        # Of S3's two, the one that comes before what obstore finds in the environment.
        name = {"s3": "aws_endpoint_url_s3", "gs": "base_url"}.get(parts.scheme, "endpoint")
        config[name] = f"{scheme}://{host.rstrip('/')}"
    limit = timedelta(seconds=QUICK_S if tries == QUICK else PATIENT_S)
    how: dict[str, Any] = {
        "client_options": {
            "allow_http": scheme == "http",
            "connect_timeout": timedelta(seconds=_CONNECT_S),
            "timeout": timedelta(seconds=_REQUEST_S),
        },
        "retry_config": {
            "max_retries": tries - 1,
            "retry_timeout": limit,
            "backoff": {"init_backoff": timedelta(seconds=_PAUSE_S)},
        },
    }
    if parts.scheme == "s3":
        # from_url of obstore 0.12.1 does not know aws_endpoint_url_s3.
        return S3Store(parts.netloc, prefix=parts.path.strip("/") or None, **config, **how)
    open_url: Any = from_url  # its types tell the kinds of stores apart
    return open_url(f"{parts.scheme}://{parts.netloc}{parts.path}", config=config, **how)


def _keys_at_home() -> dict[str, str]:
    """The keys of a profile in ~/.aws/credentials, which obstore does not read."""
    if "AWS_ACCESS_KEY_ID" in os.environ:
        return {}
    file = os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials"
    profiles = configparser.ConfigParser(interpolation=None)
    try:
        profiles.read(Path(file).expanduser())
    except configparser.Error:  # its words quote the file
        raise InputError(f"{file} can't be read as profiles with keys: mend it") from None
    name = os.environ.get("AWS_PROFILE") or "default"
    names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
    profile = profiles[name] if profiles.has_section(name) else profiles.defaults()
    return {key: profile[key] for key in names if key in profile}


def cause(error: BaseException) -> str:
    """What a library says, as one line, with what to do about the usual reasons."""
    text = " ".join(str(error).partition("\n\nDebug source:")[0].split())
    short = text if len(text) <= 300 else f"{text[:300]}..."
    for sign, cure in _CURES.items():
        if sign in text:
            return f"{cure} ({short})"
    return short
