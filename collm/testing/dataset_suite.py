"""The contract of datasets as tests: subclass `DatasetContract` and set `component`, and `settings` with its `path`."""

from __future__ import annotations

from collm.contracts.data import DatasetSource, InteractionTable
from collm.data.checks import check_table
from collm.errors import DataError
from collm.testing.component_suite import ComponentContract, expect


class DatasetContract(ComponentContract):
    """What every dataset promises, checked on the files that `settings` name."""

    def build(self) -> DatasetSource:
        """Builds the source."""
        source: DatasetSource = self.component.load_factory()(self.make_config(), context=self.context())
        return source

    def test_table_is_sound(self) -> None:
        """Columns, ids, titles, order, splits and expected counts are as the contract says."""
        table = self._table()
        try:
            check_table(table)
        except DataError as error:
            raise AssertionError(str(error)) from error
        expect(bool(table.tie_rule.strip()), "tie_rule is empty; say in words how rows of one second are ordered")

    def test_loading_twice_gives_the_same(self) -> None:
        """Reading again gives equal rows, ids and titles, and the hash does not change."""
        one, two = self._table(), self._table()
        expect(one.frame.equals(two.frame), "two loads give different rows")
        expect(list(one.user_ids) == list(two.user_ids), "two loads give different user ids")
        expect(list(one.item_ids) == list(two.item_ids), "two loads give different item ids")
        expect(list(one.titles) == list(two.titles), "two loads give different titles")
        expect(
            self.build().content_hash() == self.build().content_hash(),
            "content_hash changes between two calls on the same files; hash their bytes, never times or paths",
        )

    def test_content_hash_is_text(self) -> None:
        """`content_hash` returns a non-empty text."""
        found = self.build().content_hash()
        expect(
            isinstance(found, str) and bool(found.strip()), f"content_hash returned {found!r}; asked is a hex digest"
        )

    def _table(self) -> InteractionTable:
        table = self.build().load()
        expect(isinstance(table, InteractionTable), f"load returned {type(table).__name__}, not an InteractionTable")
        return table
