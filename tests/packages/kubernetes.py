"""Checks manifests against the schemas of Kubernetes, unknown members included, and prints their documents as JSON.

kubernetes.py FOLDER-OF-THE-PACKAGE VERSION FILE...
"""
import json
import sys

sys.path.insert(0, sys.argv[1])
import kubernetes_validate
import yaml

documents = []
for file in sys.argv[3:]:
    with open(file) as text:
        documents += [document for document in yaml.safe_load_all(text) if document]
for document in documents:
    try:
        kubernetes_validate.validate(document, sys.argv[2], strict=True)
    except kubernetes_validate.ValidationError as error:
        sys.exit(f"{document['kind']} {document['metadata']['name']}: {'.'.join(map(str, error.path))}: {error.message}")
print(json.dumps(documents))
