"""What every stage relies on: records, hashes, seeds, artefacts and errors; no stage is known here."""
