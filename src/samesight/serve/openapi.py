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
    text, whole, flag = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}
    texts = {"type": "array", "items": text}
    share = {"type": "number", "minimum": 0, "maximum": 1}
    tensor = _object(name=text, datatype=text, shape={"type": "array", "items": whole})
    sizes = {"type": "array", "items": {"type": "integer", "minimum": 0}}
    return {
        "Error": _object(error=text),
        "PhotoError": _object(path=text, error=text),
        "Top": _object(label=text, index=whole, probability=share),
        "Prediction": _object(
            path=text,
            label=text,
            index=whole,
            confidence=share,
            top={"type": "array", "items": _ref("Top")},
            bundle=text,
        ),
        "Health": _object("ready", live=flag, ready=flag),
        "ServerMetadata": _object(name=text, version=text, extensions=texts),
        "ModelReady": _object(name=text, version=text, ready=flag),
        "IndexRow": _object(name=text, version=text, state=text, reason=text),
        "Tensor": tensor,
        "ModelMetadata": _object(
            name=text,
            versions=texts,
            platform=text,
            inputs={"type": "array", "items": _ref("Tensor")},
            outputs={"type": "array", "items": _ref("Tensor")},
            properties=_object(
                version=text,
                bundle=text,
                copy=text,
                golden_samples=whole,
                batch=whole,
                labels=texts,
                preprocess={"type": "object"},
            ),
        ),
        "InferRequest": {
            "type": "object",
            "required": ["inputs"],
            "properties": {
                "id": {"type": "string", "maxLength": MAX_ID},
                "parameters": {
                    "type": "object",
                    "properties": {
                        "binary_data_output": flag,
                        "timeout": {"type": "number", "minimum": 0, "description": "Microseconds."},
                    },
                },
                "inputs": {"type": "array", "minItems": 1, "maxItems": 1, "items": _ref("InferInput")},
                "outputs": {"type": "array", "maxItems": MAX_OUTPUTS, "items": _ref("InferOutput")},
            },
        },
        "InferInput": {
            "type": "object",
            "required": ["name", "datatype", "shape", "data"],
            "properties": {
                "name": {"enum": [IMAGE, TENSOR]},
                "datatype": {"enum": ["BYTES", "FP32"]},
                "shape": {**sizes, "minItems": 1, "maxItems": 4},
                "data": {"type": "array", "items": {}, "maxItems": settings.max_bytes},
                "parameters": {"type": "object"},
            },
        },
        "InferOutput": {
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": {"enum": list(OUTPUTS)},
                "parameters": {
                    "type": "object",
                    "properties": {
                        "binary_data": flag,
                        "classification": {
                            "type": "integer",
                            "minimum": 0,
                            "description": "So many likeliest labels, as score:index:label.",
                        },
                    },
                },
            },
        },
        "InferResponse": {
            "type": "object",
            "required": ["model_name", "model_version", "outputs"],
            "properties": {
                "model_name": text,
                "model_version": text,
                "id": text,
                "parameters": _object(bundle=text),
                "outputs": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["name", "datatype", "shape"],
                        "properties": {
                            "name": {"enum": list(OUTPUTS)},
                            "datatype": text,
                            "shape": sizes,
                            "data": {"type": "array", "items": {"type": ["number", "string"]}},
                        },
                    },
                },
            },
        },
    }


def _object(*optional: str, **properties: JsonObject) -> JsonObject:
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
