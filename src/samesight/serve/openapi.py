"""The description of the routes as OpenAPI 3.1, written by hand; tests hold the server to it."""

from __future__ import annotations

from typing import Any

from samesight import __version__
from samesight.serve.protocol import IMAGE, MAX_ID, MAX_OUTPUTS, OUTPUTS, TENSOR
from samesight.serve.settings import Settings

__all__ = ["description"]

JsonObject = dict[str, Any]

_ERRORS = {
    400: "The request is malformed.",
    401: "A bearer token is needed: Authorization: Bearer TOKEN.",
    404: "There is no such model or version; the message names those that there are.",
    408: "The body did not come in time.",
    413: "The body, a photo or the number of photos is over a limit.",
    415: "The type, compression or kind of picture is not read.",
    422: "The photo is empty, truncated or damaged, or a query is out of range.",
    429: "The queue, or the memory for requests, is full. Retry-After says when to come again.",
    500: "The network or the server failed.",
    503: "Not ready yet, stopping, or the deadline has passed. Retry-After says when to come again.",
}
_RETRIED = (429, 503)
_TEXT = {"type": "string"}
_WHOLE = {"type": "integer"}
_SIZE = {"type": "integer", "minimum": 0}
_FLAG = {"type": "boolean"}


def description(settings: Settings) -> JsonObject:
    """The OpenAPI document of a server with these settings."""
    document: JsonObject = {
        "openapi": "3.1.0",
        "info": {
            "title": "Samesight",
            "version": __version__,
            "description": "Verified image classifiers: the Open Inference Protocol v2, and /classify.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {**_people(settings), **_protocol(settings), **_pages()},
        "components": {
            "schemas": _schemas(settings),
            "responses": {str(status): _error(status, words) for status, words in _ERRORS.items()},
        },
    }
    if settings.tokens:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
        for path in ("/", "/docs", "/openapi.json", "/v2/health/live", "/v2/health/ready"):
            document["paths"][path]["get"]["security"] = []
    return document


def _people(settings: Settings) -> JsonObject:
    photo = {"type": "string", "format": "binary"}
    files = {
        "type": "object",
        "required": ["photo"],
        "properties": {
            "photo": {"type": "array", "items": photo, "minItems": 1, "maxItems": settings.max_photos}
        },
    }
    kinds = ("image/jpeg", "image/png", "image/webp", "application/octet-stream")
    return {
        "/classify": {
            "post": {
                "operationId": "classify",
                "summary": "What a photo shows; of several, a list in their order.",
                "tags": ["people"],
                "parameters": [
                    _query("model", {"type": "string"}, "By default the first that is served."),
                    _query("version", {"type": "string"}, "By default the newest."),
                    _query("top", {"type": "integer", "minimum": 1, "maximum": 999_999}, "Labels a photo."),
                    _query("name", {"type": "string"}, "What `path` says of a photo without a file name."),
                ],
                "requestBody": {
                    "required": True,
                    "content": {
                        **{kind: {"schema": photo} for kind in kinds},
                        "multipart/form-data": {"schema": files},
                    },
                },
                "responses": {
                    "200": _json(
                        "The answers. In a list, a photo that was not read has `error` instead.",
                        {
                            "oneOf": [
                                _ref("Prediction"),
                                {
                                    "type": "array",
                                    "items": {"oneOf": [_ref("Prediction"), _ref("PhotoError")]},
                                },
                            ]
                        },
                    ),
                    **_refused(400, 401, 404, 408, 413, 415, 422, 429, 500, 503),
                },
            }
        }
    }


def _protocol(settings: Settings) -> JsonObject:
    live = _json("It answers.", _ref("Health"))
    paths: JsonObject = {
        "/v2": _get("serverMetadata", "Name, version, extensions.", "ServerMetadata", 401),
        "/v2/health/live": {
            "get": {
                "operationId": "live",
                "summary": "Whether the process answers.",
                "tags": ["protocol"],
                "responses": {"200": live},
            }
        },
        "/v2/health/ready": {
            "get": {
                "operationId": "ready",
                "summary": "Whether every bundle's golden samples have passed.",
                "tags": ["protocol"],
                "responses": {"200": live, "503": _json("Not yet, or no more.", _ref("Health"))},
            }
        },
        "/v2/repository/index": {
            "post": {
                "operationId": "index",
                "summary": "Every model and version.",
                "tags": ["protocol"],
                "responses": {
                    "200": _json("A row a version.", {"type": "array", "items": _ref("IndexRow")}),
                    **_refused(400, 401, 408, 413, 415, 429),
                },
            }
        },
    }
    name = _path("name", "A model's name.")
    for place, words, parameters in (
        ("/v2/models/{name}", "", [name]),
        (
            "/v2/models/{name}/versions/{version}",
            "OfVersion",
            [name, _path("version", "One of the model's versions.")],
        ),
    ):
        paths[place] = _get(
            f"modelMetadata{words}", "Inputs, outputs, labels.", "ModelMetadata", 401, 404, 503
        )
        paths[f"{place}/ready"] = _get(
            f"modelReady{words}", "Whether it answers.", "ModelReady", 401, 404, 503
        )
        paths[f"{place}/infer"] = {
            "post": {
                "operationId": f"infer{words}",
                "summary": "Photos or tensors to logits, probabilities, indices and labels.",
                "description": f"One input: `{IMAGE}`, the photos' files (in JSON, base64), or `{TENSOR}`, "
                "preprocessed. Data may follow the JSON in binary: see the binary tensor data extension.",
                "tags": ["protocol"],
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": _ref("InferRequest")}},
                },
                "responses": {
                    "200": {
                        "description": "The outputs; binary where that was asked for.",
                        "headers": {
                            "Inference-Header-Content-Length": {
                                "description": "Where binary data follows: the length of the JSON before it.",
                                "schema": {"type": "integer"},
                            }
                        },
                        "content": {
                            "application/json": {"schema": _ref("InferResponse")},
                            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
                        },
                    },
                    **_refused(400, 401, 404, 408, 413, 415, 422, 429, 500, 503),
                },
            }
        }
        for suffix in ("", "/ready", "/infer"):
            paths[f"{place}{suffix}"]["parameters"] = parameters
    return paths


def _pages() -> JsonObject:
    def page(name: str, words: str, kind: str, *statuses: int) -> JsonObject:
        return {
            "get": {
                "operationId": name,
                "summary": words,
                "tags": ["pages"],
                "responses": {
                    "200": {"description": words, "content": {kind: {"schema": {"type": "string"}}}},
                    **_refused(*statuses),
                },
            }
        }

    document = page("openapi", "This description.", "application/json")
    document["get"]["responses"]["200"]["content"]["application/json"]["schema"] = {"type": "object"}
    return {
        "/": page("dropPage", "A page to drop photos on.", "text/html"),
        "/docs": page("docsPage", "This description, to be read.", "text/html"),
        "/openapi.json": document,
        "/metrics": page("metrics", "Metrics for Prometheus.", "text/plain", 401),
    }


def _schemas(settings: Settings) -> JsonObject:
    return {**_answer_schemas(), **_model_schemas(), **_request_schemas(settings), **_response_schemas()}


def _answer_schemas() -> JsonObject:
    """Of /classify, and of every refusal."""
    share = {"type": "number", "minimum": 0, "maximum": 1}
    return {
        "Error": _object(error=_TEXT),
        "PhotoError": _object(path=_TEXT, error=_TEXT),
        "Top": _object(label=_TEXT, index=_WHOLE, probability=share),
        "Prediction": _object(
            path=_TEXT, label=_TEXT, index=_WHOLE, confidence=share, top=_list(_ref("Top")), bundle=_TEXT
        ),
    }


def _model_schemas() -> JsonObject:
    """Of the server, and of what it serves."""
    properties = _object(
        version=_TEXT,
        bundle=_TEXT,
        copy=_TEXT,
        golden_samples=_WHOLE,
        batch=_WHOLE,
        labels=_list(_TEXT),
        preprocess={"type": "object"},
    )
    tensors = _list(_ref("Tensor"))
    return {
        "Health": _object("ready", live=_FLAG, ready=_FLAG),
        "ServerMetadata": _object(name=_TEXT, version=_TEXT, extensions=_list(_TEXT)),
        "ModelReady": _object(name=_TEXT, version=_TEXT, ready=_FLAG),
        "IndexRow": _object(name=_TEXT, version=_TEXT, state=_TEXT, reason=_TEXT),
        "Tensor": _object(name=_TEXT, datatype=_TEXT, shape=_list(_WHOLE)),
        "ModelMetadata": _object(
            name=_TEXT,
            versions=_list(_TEXT),
            platform=_TEXT,
            inputs=tensors,
            outputs=tensors,
            properties=properties,
        ),
    }


def _request_schemas(settings: Settings) -> JsonObject:
    """Of the inference protocol's requests, which may say more than is read."""
    count = {
        "type": "integer",
        "minimum": 0,
        "description": "So many likeliest labels, as score:index:label.",
    }
    timeout = {"type": "number", "minimum": 0, "description": "Microseconds."}
    return {
        "InferRequest": _open_object(
            "inputs",
            id={"type": "string", "maxLength": MAX_ID},
            parameters=_open_object(binary_data_output=_FLAG, timeout=timeout),
            inputs=_list(_ref("InferInput"), minItems=1, maxItems=1),
            outputs=_list(_ref("InferOutput"), maxItems=MAX_OUTPUTS),
        ),
        "InferInput": _open_object(
            *("name", "datatype", "shape", "data"),
            name={"enum": [IMAGE, TENSOR]},
            datatype={"enum": ["BYTES", "FP32"]},
            shape=_list(_SIZE, minItems=1, maxItems=4),
            data=_list({}, maxItems=settings.max_bytes),
            parameters={"type": "object"},
        ),
        "InferOutput": _open_object(
            "name",
            name={"enum": list(OUTPUTS)},
            parameters=_open_object(binary_data=_FLAG, classification=count),
        ),
    }


def _response_schemas() -> JsonObject:
    """Of the inference protocol's answers."""
    output = _open_object(
        *("name", "datatype", "shape"),
        name={"enum": list(OUTPUTS)},
        datatype=_TEXT,
        shape=_list(_SIZE),
        data=_list({"type": ["number", "string"]}),
    )
    return {
        "InferResponse": _open_object(
            *("model_name", "model_version", "outputs"),
            model_name=_TEXT,
            model_version=_TEXT,
            id=_TEXT,
            parameters=_object(bundle=_TEXT),
            outputs=_list(output),
        )
    }


def _list(items: JsonObject, **limits: int) -> JsonObject:
    return {"type": "array", **limits, "items": items}


def _open_object(*required: str, **properties: JsonObject) -> JsonObject:
    """An object that may have other properties too."""
    needed = {"required": list(required)} if required else {}
    return {"type": "object", **needed, "properties": properties}


def _object(*optional: str, **properties: JsonObject) -> JsonObject:
    """An object of just these properties, all of which it has but for the `optional` ones."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


def _ref(name: str) -> JsonObject:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(words: str, schema: JsonObject) -> JsonObject:
    return {"description": words, "content": {"application/json": {"schema": schema}}}


def _error(status: int, words: str) -> JsonObject:
    # Of a single photo that cannot be read, the answer names the photo too.
    answer = _json(words, {"anyOf": [_ref("Error"), _ref("PhotoError")]})
    if status in _RETRIED:
        answer["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    return answer


def _refused(*statuses: int) -> JsonObject:
    return {str(status): {"$ref": f"#/components/responses/{status}"} for status in statuses}


def _get(name: str, words: str, schema: str, *statuses: int) -> JsonObject:
    return {
        "get": {
            "operationId": name,
            "summary": words,
            "tags": ["protocol"],
            "responses": {"200": _json(words, _ref(schema)), **_refused(*statuses)},
        }
    }


def _query(name: str, schema: JsonObject, words: str) -> JsonObject:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": words}


def _path(name: str, words: str) -> JsonObject:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "schema": {"type": "string", "minLength": 1},
        "description": words,
    }
