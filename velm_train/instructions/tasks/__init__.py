"""One module per way to ask; all share the call shape of `request.TaskRequest`."""
