"""Loaded by the fork server before its first child: torch and everything that a run imports, once for all trials."""

from __future__ import annotations

import collm.study.trial

collm.study.trial.installed()
