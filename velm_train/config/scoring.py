"""Settings for scoring predictions that are already there, anybody's."""

from dataclasses import dataclass

from velm_train.config.checks import one_of, require

NAMING_FORMATS = ("velm_train", "csv", "velm")
BENCHMARK_FORMATS = ("mmad", "visa_dr_detection", "visa_dr_reasoning")
SCORE_FORMATS = ("auto", *NAMING_FORMATS, *BENCHMARK_FORMATS)


@dataclass(kw_only=True, slots=True)
class ScoreConfig:
    """How `task=score` reads `predictions`, and what it compares them with.

    Attributes:
        format: of the file: auto (.jsonl is velm_train, .csv is csv, .json is velm), velm_train, csv, velm (as released
            with VELM), mmad, visa_dr_detection, visa_dr_reasoning.
        truth: what the images show: a CSV file with image_id, category, defect_type; for velm the name of a shipped
            list, mvtec_ac or visa_ac; for the benchmarks, which need it, their own file: mmad.json, test_data.json,
            visa_dr.json; or null to believe the predictions' file.
        taxonomy: label lists and display names: a name in data/taxonomies without .json, a path, or null for the types
            that occur in the truth.
        label_keys: for velm, and only there: the JSON file with class keys and display names.
        missing: refuse stops at images of `truth` without a prediction; wrong counts them as wrong.
        sentence_model: for visa_dr_reasoning: folder or hub id of the model whose embeddings are compared, or null for
            no embedding similarity.
    """

    format: str
    truth: str | None
    taxonomy: str | None
    label_keys: str | None
    missing: str
    sentence_model: str | None

    def __post_init__(self) -> None:
        """Checks the values."""
        one_of("score.format", self.format, SCORE_FORMATS)
        one_of("score.missing", self.missing, ("refuse", "wrong"))
        for key in ("truth", "taxonomy", "label_keys", "sentence_model"):
            require(getattr(self, key) != "", key=f"score.{key}", got="''", allowed="null, or a file, folder or name")
        require(
            self.format not in BENCHMARK_FORMATS or self.truth is not None,
            key="score.truth",
            got="null",
            allowed=f"the benchmark's own file with score.format={self.format}",
        )
        require(
            self.label_keys is None or self.format in ("auto", "velm"),
            key="score.label_keys",
            got=self.label_keys,
            allowed=f"null with score.format={self.format}; only velm has class keys apart",
        )
        require(
            self.sentence_model is None or self.format == "visa_dr_reasoning",
            key="score.sentence_model",
            got=self.sentence_model,
            allowed=f"null with score.format={self.format}; visa_dr_reasoning alone compares sentences",
        )
