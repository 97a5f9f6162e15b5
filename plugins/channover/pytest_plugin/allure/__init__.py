"""What a run tells Allure."""
