"""Series in time: windows over them, gaps, differences, forecasts."""
