// SendGrid's Go client against HOST with KEY: a mail with everything, a sandbox mail, a cancelled batch, a mistake.
// Prints one JSON object of what came back.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/sendgrid/rest"
	"github.com/sendgrid/sendgrid-go"
	"github.com/sendgrid/sendgrid-go/helpers/mail"
)

func call(path string, body []byte) *rest.Response {
	request := sendgrid.GetRequest(os.Getenv("KEY"), path, os.Getenv("HOST"))
	request.Method = "POST"
	request.Body = body
	response, err := sendgrid.API(request)
	if err != nil {
		panic(err)
	}
	return response
}

func plain(to string) *mail.SGMailV3 {
	return mail.NewSingleEmail(mail.NewEmail("Shop", "sender@example.com"), "Hello", mail.NewEmail("", to), "Hi", "<p>Hi</p>")
}

func main() {
	var batch struct {
		ID string `json:"batch_id"`
	}
	if err := json.Unmarshal([]byte(call("/v3/mail/batch", nil).Body), &batch); err != nil {
		panic(err)
	}

	whole := mail.NewV3Mail()
	whole.SetFrom(mail.NewEmail("Shop", "sender@example.com"))
	whole.SetReplyTo(mail.NewEmail("", "reply@example.com"))
	whole.Subject = "Hello"
	whole.AddContent(mail.NewContent("text/plain", "Hi"), mail.NewContent("text/html", "<p>Hi</p>"))
	ada := mail.NewPersonalization()
	ada.AddTos(mail.NewEmail("Ada", "ada@example.com"))
	ada.AddCCs(mail.NewEmail("", "copy@example.com"))
	ada.SetDynamicTemplateData("n", 1)
	ada.SetCustomArg("order", "17")
	bob := mail.NewPersonalization()
	bob.AddTos(mail.NewEmail("", "bob@example.com"))
	bob.SetDynamicTemplateData("n", 2)
	whole.AddPersonalizations(ada, bob)
	whole.SetTemplateID("d-0123456789abcdef0123456789abcdef")
	whole.AddAttachment(mail.NewAttachment().SetContent("JVBERg==").SetFilename("a.pdf").SetType("application/pdf").SetDisposition("attachment"))
	whole.AddCategories("welcome")
	whole.SetSendAt(int(time.Now().Unix()) + 3600)
	whole.SetBatchID(batch.ID)
	sent := call("/v3/mail/send", mail.GetRequestBody(whole))

	sandboxed := plain("ada@example.com")
	sandboxed.SetMailSettings(mail.NewMailSettings().SetSandboxMode(mail.NewSetting(true)))
	sandbox := call("/v3/mail/send", mail.GetRequestBody(sandboxed))
	cancelled := call("/v3/user/scheduled_sends", []byte(fmt.Sprintf(`{"batch_id":%q,"status":"cancel"}`, batch.ID)))
	mistake := call("/v3/mail/send", mail.GetRequestBody(plain("nobody")))

	var refused struct {
		Errors []map[string]any `json:"errors"`
	}
	if err := json.Unmarshal([]byte(mistake.Body), &refused); err != nil {
		panic(err)
	}
	answer, err := json.Marshal(map[string]any{
		"id":       sent.Headers["X-Message-Id"][0],
		"statuses": []int{sent.StatusCode, sandbox.StatusCode, cancelled.StatusCode, mistake.StatusCode},
		"errors":   refused.Errors,
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(string(answer))
}
