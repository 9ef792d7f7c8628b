// The handler is called over HTTP, by `requests.txt`. What is asked of it stands in the cron string.
export async function scheduled(controller) {
  const { cron, scheduledTime } = controller;
  if (cron === "throws") throw new Error("on purpose");
  if (cron === "noRetry") controller.noRetry();
  if (cron === "checks the time" && scheduledTime !== 1_000_000) throw new Error(`${scheduledTime}`);
  if (cron === "checks now" && Math.abs(scheduledTime - Date.now()) > 60_000) throw new Error(`${scheduledTime}`);
  if (cron === "waits") await scheduler.wait(10);
}
