"""What people see: the HTML report, its pictures and its gallery of clips."""
