"""Decodes OTLP requests with the official messages: prints what each file of the arguments says, as JSON."""

import json
import sys

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

KINDS = {"traces": ExportTraceServiceRequest, "logs": ExportLogsServiceRequest, "metrics": ExportMetricsServiceRequest}


def unknown(message):
    """Whether a message has fields that its description does not know: whoever encoded it was wrong about a number."""
    from google.protobuf.unknown_fields import UnknownFieldSet

    if len(UnknownFieldSet(message)) > 0:
        return True
    for field, value in message.ListFields():
        if field.message_type is not None:
            many = value if field.is_repeated else [value]
            if any(unknown(one) for one in many):
                return True
    return False


for argument in sys.argv[1:]:
    kind, _, file = argument.partition("=")
    message = KINDS[kind].FromString(open(file, "rb").read())
    assert not unknown(message), file
    print(json.dumps(MessageToDict(message)))
