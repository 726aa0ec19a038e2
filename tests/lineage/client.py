"""Tells of a small pipeline with the official client: URL, key, and how bodies are coded. Prints the run's id as JSON."""

import json
import sys
from datetime import datetime, timezone

import attr
from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import (
    Dataset,
    DatasetEvent,
    InputDataset,
    Job,
    JobEvent,
    OutputDataset,
    Run,
    RunEvent,
    RunState,
)
from openlineage.client.facet_v2 import RunFacet, nominal_time_run, schema_dataset, sql_job
from openlineage.client.transport.http import (
    ApiKeyTokenProvider,
    HttpCompression,
    HttpConfig,
    HttpTransport,
)
from openlineage.client.uuid import generate_new_uuid

url, key, compression = sys.argv[1:]
PRODUCER = "https://example.org/airflow"


@attr.define
class TestFacet(RunFacet):
    """A facet that the node cannot know."""

    anything: str = "kept"


transport = HttpTransport(
    HttpConfig(
        url=url,
        auth=ApiKeyTokenProvider({"apiKey": key}),
        compression=HttpCompression.GZIP if compression == "gzip" else None,
        retry={"total": 0},
    )
)
client = OpenLineageClient(transport=transport)


def now() -> str:
    return datetime.now(timezone.utc).isoformat()


run = Run(
    runId=str(generate_new_uuid()),
    facets={
        "nominalTime": nominal_time_run.NominalTimeRunFacet(nominalStartTime="2026-11-01T00:00:00Z"),
        "penstock_test": TestFacet(),
    },
)
job = Job(namespace="airflow", name="daily.report", facets={"sql": sql_job.SQLJobFacet(query="SELECT 1")})
fields = [schema_dataset.SchemaDatasetFacetFields(name="order_id", type="bigint")]
orders = InputDataset(
    namespace="postgres://db:5432",
    name="shop.public.orders",
    facets={"schema": schema_dataset.SchemaDatasetFacet(fields=fields)},
)
report = OutputDataset(namespace="s3://reports", name="reports/daily")

for state in (RunState.START, RunState.RUNNING, RunState.COMPLETE):
    client.emit(
        RunEvent(
            eventType=state,
            eventTime=now(),
            run=run,
            job=job,
            inputs=[orders],
            outputs=[report] if state == RunState.COMPLETE else [],
            producer=PRODUCER,
        )
    )
client.emit(JobEvent(eventTime=now(), job=job, inputs=[orders], outputs=[report], producer=PRODUCER))
client.emit(
    DatasetEvent(
        eventTime=now(), dataset=Dataset(namespace="s3://reports", name="reports/daily"), producer=PRODUCER
    )
)
print(json.dumps({"runId": run.runId}))
