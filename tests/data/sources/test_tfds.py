"""TFDS datasets are read as documents without TensorFlow and without a network."""

import socket
import subprocess
import sys

import pytest

from train.data.sources import tfds


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    def refuse(*arguments, **options):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))


@pytest.fixture
def mocked():
    import tensorflow_datasets

    with tensorflow_datasets.testing.mock_data(num_examples=5):
        yield


def test_the_text_of_every_example_is_a_document(mocked):
    source = tfds.read("imdb_reviews")
    documents = list(source.documents())
    assert len(documents) == 5
    assert all(isinstance(document, str) and document for document in documents)
    assert list(source.documents()) == documents
    assert tfds.read("imdb_reviews").fingerprint == source.fingerprint
    assert tfds.read("imdb_reviews", "test").fingerprint != source.fingerprint


def test_an_older_dataset_is_found_by_its_name(mocked):
    assert len(list(tfds.read("glue/cola", text_field="sentence").documents())) == 5


def test_the_only_text_field_is_used_and_otherwise_it_must_be_named(mocked):
    assert len(list(tfds.read("glue/cola").documents())) == 5
    with pytest.raises(ValueError, match="has the text fields premise, hypothesis: no field"):
        tfds.read("glue/mnli", "train")
    with pytest.raises(ValueError, match="has the text fields text: title is not one"):
        tfds.read("imdb_reviews", text_field="title")


def test_an_unknown_name_or_split_is_an_error_of_one_line(mocked):
    with pytest.raises(ValueError, match="TFDS has no dataset called nonesuch") as error:
        tfds.read("nonesuch")
    assert "\n" not in str(error.value)


def test_offline_a_missing_dataset_is_an_error(monkeypatch):
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match=r"imdb_reviews is not prepared in .*ZOO_OFFLINE"):
        tfds.read("imdb_reviews")


def test_a_prepared_folder_is_read_as_it_is(tmp_path):
    import tensorflow_datasets as library

    class Notes(library.core.GeneratorBasedBuilder):
        """Three notes."""

        VERSION = library.core.Version("1.0.0")

        def _info(self):
            features = library.features.FeaturesDict({"note": library.features.Text()})
            return library.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            yield from ((i, {"note": f"note {i}: é"}) for i in range(3))

    builder = Notes(data_dir=tmp_path, file_format="array_record")
    builder.download_and_prepare()
    for name in (str(builder.data_path), "notes"):
        documents = tfds.read(name, data_dir=tmp_path).documents()
        assert sorted(documents) == [f"note {i}: é" for i in range(3)]
    with pytest.raises(ValueError, match="Unknown split 'dev'") as error:
        tfds.read("notes", "dev", data_dir=tmp_path)
    assert "\n" not in str(error.value)


def test_tensorflow_is_never_imported():
    script = (
        "import sys, tensorflow_datasets as t\nfrom train.data.sources import tfds\n"
        "with t.testing.mock_data(num_examples=2): list(tfds.read('imdb_reviews').documents())\n"
        "assert not {'tensorflow', 'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env={"PYTHONPATH": "."})
