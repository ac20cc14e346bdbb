"""The Helm chart: its values.yaml is edited, narrowed to one workflow, and rendered by `helm`."""
