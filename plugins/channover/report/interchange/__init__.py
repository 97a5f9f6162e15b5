"""Results as other programs take them: spreadsheets, time series, the pages of continuous integration."""
