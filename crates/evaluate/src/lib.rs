//! Suites, scoring, statistics, reports.
